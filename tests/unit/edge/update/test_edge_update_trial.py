from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edge.inference.engine import Engine
from edge.inference.golden import outputs_digest
from edge.update import prover
from edge.update.entities import Proof
from edge.update.prover import NotProved
from edge.update.variants import Speed
from protos.v1.manifest_pb2 import Manifest
from tests import tiny_models

GOOD = tiny_models.int8(tiny_models.weights())
SHIFTED = tiny_models.int8(tiny_models.weights(shift=1))


def prove(file: Path, data: bytes, manifest: Manifest, variant: str = "int8") -> Proof:
    file.write_bytes(data)
    return asyncio.run(
        prover.prove(
            digest=b"m",
            manifest=manifest.SerializeToString(),
            artifact=b"a",
            variant=variant,
            model=file,
            timeout_s=60,
        )
    )


def run_instead(
    monkeypatch: pytest.MonkeyPatch, program: str, timeout_s: float = 60, manifest: bytes = b"x" * 90_000
) -> Proof:
    """What the parent makes of a child that behaves like `program` does."""
    monkeypatch.setattr(prover, "_command", lambda *_: [sys.executable, "-c", program])
    return asyncio.run(
        prover.prove(digest=b"m", manifest=manifest, artifact=b"a", variant="int8", model=Path(), timeout_s=timeout_s)
    )


@pytest.mark.parametrize("variant", ["int8", "float32"])
def test_a_good_model_is_proved_by_the_digest_of_its_outputs(tmp_path: Path, variant: str) -> None:
    files = {"int8": GOOD, "float32": tiny_models.float32(tiny_models.weights())}
    manifest = tiny_models.manifest(files)
    proof = prove(tmp_path / "model", files[variant], manifest, variant)
    description = next(v for v in manifest.variants if v.name == variant)
    outputs = Engine(files[variant], description, manifest.preprocessing).raw(tiny_models.frames())
    assert proof == Proof(b"m", b"a", variant, outputs_digest(outputs))


def measure(monkeypatch: pytest.MonkeyPatch, program: str) -> tuple[Proof, Speed]:
    """What the parent makes of a child that measures like `program` does."""
    monkeypatch.setattr(prover, "_command", lambda *_: [sys.executable, "-c", program])
    return asyncio.run(
        prover.measure(digest=b"m", manifest=b"", artifact=b"a", variant="int8", model=Path(), timeout_s=60, threads=1)
    )


def test_a_good_model_is_proved_and_measured_in_one_child(tmp_path: Path) -> None:
    manifest = tiny_models.manifest({"int8": GOOD})
    (tmp_path / "model").write_bytes(GOOD)
    proof, speed = asyncio.run(
        prover.measure(
            digest=b"m",
            manifest=manifest.SerializeToString(),
            artifact=b"a",
            variant="int8",
            model=tmp_path / "model",
            timeout_s=60,
            threads=2,
        )
    )
    assert proof == prove(tmp_path / "model", GOOD, manifest)
    assert 0 < speed.frame_us <= speed.single_us


@pytest.mark.parametrize("told", ["", '"single_us": "nan", "frame_us": "nan"', '"single_us": "5", "frame_us": "-1"'])
def test_a_child_that_does_not_say_what_a_frame_takes_is_a_refusal(monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    answer = "".join(['{"problem": "", "golden_outputs": "', "ab" * 32, '"', f", {told}" if told else "", "}"])
    with pytest.raises(NotProved, match="did not say what a frame takes"):
        measure(monkeypatch, f"print({answer!r})")


def test_a_model_that_answers_wrongly_is_told_apart(tmp_path: Path) -> None:
    manifest = tiny_models.manifest({"int8": SHIFTED}, judged_by={"int8": GOOD})
    with pytest.raises(NotProved, match=r"golden vectors: 4 of 4 wrong, first: .*class 1 instead of 0"):
        prove(tmp_path / "model", SHIFTED, manifest)


def test_a_model_that_answers_with_no_numbers_is_wrong(tmp_path: Path) -> None:
    broken = tiny_models.float32(np.full((4, 4), np.nan))
    manifest = tiny_models.manifest(
        {"float32": broken}, judged_by={"float32": tiny_models.float32(tiny_models.weights())}
    )
    with pytest.raises(NotProved, match=r"4 of 4 wrong.*not numbers"):
        prove(tmp_path / "model", broken, manifest, "float32")


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotProved, match="cannot be run"):
        prove(tmp_path / "model", b"no model at all", tiny_models.manifest({"int8": GOOD}))


def test_a_model_with_other_tensors_than_its_manifest_says_is_refused(tmp_path: Path) -> None:
    float32 = tiny_models.float32(tiny_models.weights())
    with pytest.raises(NotProved, match="the manifest says"):
        prove(tmp_path / "model", float32, tiny_models.manifest({"int8": GOOD}))


def test_a_manifest_without_golden_vectors_proves_nothing(tmp_path: Path) -> None:
    manifest = tiny_models.manifest({"int8": GOOD})
    del manifest.golden[:]
    with pytest.raises(NotProved):
        prove(tmp_path / "model", GOOD, manifest)


@pytest.mark.parametrize(
    ("program", "complaint"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("raise SystemExit(3)", "exit code 3"),
        ("print('garbage')", "no answer"),
        ("print('[1]')", "no answer"),
        ("""print('{"problem": "", "golden_outputs": "zz"}')""", "no digest"),
        ("""print('{"problem": "", "golden_outputs": ""}')""", "no digest"),
        ("""print('{"problem": "it is bad", "golden_outputs": ""}')""", "it is bad"),
        ("while True: print('x' * 1000)", "without end"),
    ],
)
def test_a_child_that_does_anything_but_prove_is_a_refusal(
    monkeypatch: pytest.MonkeyPatch, program: str, complaint: str
) -> None:
    with pytest.raises(NotProved, match=complaint):
        run_instead(monkeypatch, program)


def test_a_child_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    program = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    with pytest.raises(NotProved, match="longer than 2 s"):
        run_instead(monkeypatch, program, timeout_s=2)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


@pytest.mark.parametrize(
    "program",
    [
        "while True: print('x' * 1000)",
        "import subprocess; subprocess.Popen(['sleep', '600']); import time; time.sleep(600)",
    ],
    ids=["talks-and-never-listens", "has-a-child-of-its-own"],
)
def test_a_child_that_cannot_be_spoken_with_is_ended(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    more_than_pipe_and_buffer = b"x" * 1_000_000
    with pytest.raises(NotProved, match="longer than 1 s"):
        run_instead(monkeypatch, program, timeout_s=1, manifest=more_than_pipe_and_buffer)


def test_a_child_whose_parent_stops_waiting_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    program = f"""
import os, time
open({str(pid)!r} + '.new', 'w').write(str(os.getpid()))
os.rename({str(pid)!r} + '.new', {str(pid)!r})
time.sleep(600)"""
    monkeypatch.setattr(prover, "_command", lambda *_: [sys.executable, "-c", program])

    async def begin_and_cancel() -> None:
        proving = asyncio.create_task(
            prover.prove(digest=b"m", manifest=b"", artifact=b"a", variant="int8", model=Path(), timeout_s=600)
        )
        await asyncio.to_thread(appeared, pid)
        proving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await proving

    asyncio.run(begin_and_cancel())
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def appeared(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


LIMITED = "from edge.update.trial import limit; limit({memory}, {seconds}); "


@pytest.mark.parametrize(
    ("program", "ending"),
    [
        (LIMITED.format(memory=2**30, seconds=60) + "bytes(2**31)", "exit code 1"),
        (LIMITED.format(memory=2**30, seconds=1) + "\nwhile True: pass", signal.SIGXCPU.name + "|SIGKILL"),
        (LIMITED.format(memory=2**30, seconds=60) + "open('/tmp/never', 'wb').write(b'x' * 100_000)", "exit code 1"),
    ],
    ids=["memory", "processor", "files"],
)
def test_the_child_cannot_take_more_than_its_limits(
    monkeypatch: pytest.MonkeyPatch, program: str, ending: str, tmp_path: Path
) -> None:
    with pytest.raises(NotProved, match=ending):
        run_instead(monkeypatch, program.replace("/tmp/never", str(tmp_path / "never")))
