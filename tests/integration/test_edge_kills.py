"""A device killed, torn and starved of its disk at every system call of an update that changes its data folder."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.models.service import ModelStore
from edge.update.entities import State
from edge.update.memory import Memory
from protos.kit.link import Address
from tests.integration.killed_device import (
    FORMER,
    NEW,
    OLD,
    PATCHED,
    SLOT,
    VARIED,
    Life,
    Version,
    broker,
    chunks_on_disk,
    live,
    read_diary,
)
from tests.syscalls import Call, Decide, End, Verdict, supervise, supported

pytestmark = [
    pytest.mark.skipif(not supported(), reason="the kernel does not tell of system calls (seccomp user notification)"),
    pytest.mark.timeout(600),
    pytest.mark.forks,
]

WRITES = {"write", "pwrite64"}
TAKES_ROOM = WRITES | {"open", "openat", "fallocate", "fsync", "fdatasync", "mkdir", "rename"}
"""What a full disk refuses."""
FULL_FOR = 9
"""Calls that a disk stays full for: long enough for what is tried next to fail as well."""


@dataclass
class Bench:
    """A device that runs OLD, had FORMER before, and shall run `new`."""

    folder: Path
    broker: Address
    new: Version

    @property
    def edge(self) -> Path:
        return self.folder / "edge"

    def prepare(self) -> None:
        self.edge.mkdir()
        for version in (FORMER, OLD):
            self.live(version=version)
        self.edge.rename(self.folder / "before")

    def reset(self) -> None:
        shutil.rmtree(self.edge, ignore_errors=True)
        shutil.copytree(self.folder / "before", self.edge)

    def live(self, decide: Decide = lambda _: Verdict.GO_ON, version: Version | None = None) -> tuple[End, Life]:
        """One process of the device. What it tells is there only if it was not killed."""
        diary = self.folder / "diary.json"
        diary.unlink(missing_ok=True)
        end = supervise(lambda: live(self.edge, self.broker, version or self.new, diary), self.edge, decide)
        return end, Life() if end.killed else read_diary(diary)

    def rehearsal(self) -> list[Call]:
        """The calls of a life that nothing disturbs."""
        self.reset()
        end, life = self.live()
        assert not end.killed
        assert set(life.came) == self.new.shortest
        check_done(self, life)
        return end.calls

    def copy(self) -> Path:
        """The data folder as it lies there, to look at: looking may change it."""
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        return Path(shutil.copytree(self.edge, copy))


@pytest.fixture(scope="module", params=[NEW, PATCHED, VARIED], ids=["whole", "patched", "varied"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("kills")
    with broker(folder) as address:
        bench = Bench(folder, address, request.param)
        bench.prepare()
        yield bench


def look(folder: Path, new: Version) -> tuple[int, State]:
    """The version that a start of the agent would serve, proven, and the update that it would remember."""
    update = Memory(folder, SLOT).load()
    assert update.target, "the remembered update is whole"
    installed = ModelStore.open(folder / "models", SLOT).running()
    assert installed, "a model can serve"
    version = {OLD.number: OLD, new.number: new}[installed.manifest.version]
    assert installed.path.read_bytes() == version.file
    assert not list(folder.glob("*.damaged"))
    return version.number, update.state


def check_old_or_new(folder: Path, new: Version) -> int:
    """Model and memory agree; returns the version that counts."""
    version, state = look(folder, new)
    if state is State.COMMITTED and Memory(folder, SLOT).load().generation == new.number:
        assert version == new.number, "a receipt is only for what runs"
    if version == new.number:
        assert state in {State.TRIAL, State.COMMITTED}, "only a trial ends in a commit"
    return version


def check_done(bench: Bench, life: Life) -> None:
    """The device came to the new version, and left nothing behind."""
    edge = bench.edge
    assert life.state == State.COMMITTED
    assert look(edge, bench.new) == (bench.new.number, State.COMMITTED)
    left = {str(path.relative_to(edge)) for path in edge.rglob("*") if path.is_file() and "metadata" not in path.parts}
    places = {f"models/{SLOT}/{place}/{file}" for place in "ab" for file in ("manifest.pb", "model.tflite")}
    measured = {f"models/{SLOT}/variants.json"} if bench.new.is_varied else set[str]()
    assert (
        left
        == {"agent.lock", f"update-{SLOT}.json", f"generation-{SLOT}", f"models/{SLOT}/journal.json"}
        | places
        | measured
    )


def killed_at(number: int) -> Decide:
    return lambda call: Verdict.KILL if call.number == number else Verdict.GO_ON


def torn_at(number: int) -> Decide:
    """Half of write `number` is on the disk when the process ends."""
    return lambda call: Verdict.TEAR if call.number == number else Verdict.GO_ON


def full_from(number: int) -> Decide:
    return lambda call: (
        errno.ENOSPC if number <= call.number < number + FULL_FOR and call.name in TAKES_ROOM else Verdict.GO_ON
    )


def broken_at(number: int) -> Decide:
    return lambda call: errno.EIO if call.number == number else Verdict.GO_ON


def test_a_kill_at_any_call_leaves_the_old_or_the_new_model_and_nothing_on_the_disk_is_fetched_again(
    bench: Bench,
) -> None:
    found = [check_kill(bench, killed_at(call.number)) for call in bench.rehearsal()]
    assert found == sorted(found), "from one call on the new model counts, before it the old one"
    assert set(found) == {OLD.number, bench.new.number}


def test_a_write_that_a_kill_tears_in_two_counts_as_none(bench: Bench) -> None:
    for call in bench.rehearsal():
        if call.name in WRITES:
            check_kill(bench, torn_at(call.number))


def check_kill(bench: Bench, fault: Decide) -> int:
    """Kill the device, look at what is there, and let it go on; returns the version that it served then."""
    bench.reset()
    end, _ = bench.live(fault)
    assert end.killed
    killed = f"killed at {end.calls[-1]}"
    found = check_old_or_new(bench.copy(), bench.new)
    had = chunks_on_disk(bench.copy(), bench.new)
    _, life = bench.live()
    assert life.served[0] == found, killed
    assert life.served[-1] == bench.new.number, killed
    assert set(life.came) == bench.new.shortest - had, f"{killed}: only what was missing was fetched"
    check_done(bench, life)
    return found


WORDS = {full_from: ("No space left", "make room"), broken_at: ("Input/output error", "check it")}
REMOVAL_FAILED = "warning: fetched files not removed"


@pytest.mark.parametrize("fault", WORDS)
def test_a_disk_that_fails_at_any_call_costs_time_and_never_the_model_that_serves(
    bench: Bench, fault: Callable[[int], Decide]
) -> None:
    for call in bench.rehearsal():
        bench.reset()
        _, life = bench.live(fault(call.number))
        problem, remedy = WORDS[fault]
        assert all(problem in told and remedy in told for told in life.told), call
        if life.failed:
            assert problem in life.failed, call
            _, life = bench.live()
        assert set(life.served) == {OLD.number, bench.new.number}, f"{call}: a model serves at all times"
        if REMOVAL_FAILED in life.log:
            shutil.rmtree(bench.edge / "models" / SLOT / "variants", ignore_errors=True)
            Path(call.path).unlink(missing_ok=True)  # the next update would remove it, as the variants
        check_done(bench, life)


def test_bytes_are_synced_before_a_name_is_given_to_them_and_the_name_after(bench: Bench) -> None:
    # What a kill cannot show, a power cut would: bytes that were written but not yet on the disk.
    unsynced = set[Path]()
    unnamed = set[Path]()
    for call in bench.rehearsal():
        if call.name in WRITES:
            assert not unnamed, f"{call}: the folder is not synced yet"
            unsynced.add(call.path)
        elif call.name in {"fsync", "fdatasync"}:
            unsynced.discard(call.path)
            unnamed.discard(call.path)
        elif call.name == "rename":
            proven_anew = {path for path in unsynced if path.suffix == ".part" or path.name == "agent.lock"}
            assert unsynced == proven_anew, f"{call}: bytes are not synced yet"
            unnamed.add(call.path.parent)
    assert not unnamed
