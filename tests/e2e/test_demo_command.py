"""`littoral demo` as a person runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from simulators.demo.processes import PACKAGES

DEMO = [sys.executable, "-m", "cloud.cli", "demo"]


def processes_in(folder: Path) -> list[int]:
    """Processes that work in `folder`, as every process of the demo does."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            working = (place / "cwd").readlink()
        except OSError:  # it has ended meanwhile
            continue
        if working == folder or folder in working.parents:
            found.append(int(place.name))
    return found


SHAPE = {
    "models": {"version": int, "digest": str, "bytes": int, "accuracy_float": float, "accuracy_int8": float},
    "devices": {"id": str, "version": int, "generation": int},
    "rollouts": {"version": int, "state": str, "reason": str, "waves": list},
    "refusals": {"device": str, "version": int, "reason": str},
}


def assert_shape(found: Mapping[str, Any]) -> None:
    assert set(found) == {*SHAPE, "results"}
    for name, fields in SHAPE.items():
        for entry in found[name]:
            assert {field: type(value) for field, value in entry.items()} == fields
    for rollout in found["rollouts"]:
        assert all(set(wave) == {"size", "succeeded", "failed"} for wave in rollout["waves"])
    assert set(found["results"]) == {"sent", "stored", "lost", "duplicated", "accuracy"}


def test_the_demo_prints_one_json_object_and_nothing_else(tmp_path: Path) -> None:
    home = tmp_path / "home"
    temporary = tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(temporary)}
    done = subprocess.run([*DEMO, "--json"], cwd=PACKAGES, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert_shape(found)
    assert [model["version"] for model in found["models"]] == [1, 2, 3]
    assert {device["id"]: device["version"] for device in found["devices"]} == {f"edge-{n}": 2 for n in range(1, 6)}
    assert [(r["version"], r["state"]) for r in found["rollouts"]] == [
        (1, "succeeded"),
        (2, "succeeded"),
        (3, "failed"),
    ]
    assert [refusal["version"] for refusal in found["refusals"]] == [3]
    assert (found["results"]["lost"], found["results"]["duplicated"]) == (0, 0)
    assert found["results"]["stored"] == found["results"]["sent"] > 0
    assert set(found["results"]["accuracy"]) == {"1", "2"}
    assert (list(home.iterdir()), list(temporary.iterdir())) == ([], [])


@pytest.mark.parametrize(
    ("moment", "number", "code"),
    [
        ("Training version 1", signal.SIGKILL, -signal.SIGKILL),
        ("Training version 1", signal.SIGTERM, 143),
        ("edge-1:", signal.SIGINT, 130),
    ],
)
def test_ending_the_demo_in_the_middle_leaves_no_process(
    tmp_path: Path, moment: str, number: signal.Signals, code: int
) -> None:
    folder = tmp_path / "data"
    command = [*DEMO, "--dir", str(folder), "--agents", "2"]
    with subprocess.Popen(command, cwd=PACKAGES, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stderr is not None
        assert any(moment in line for line in demo.stderr), "it ended before"
        until(lambda: bool(processes_in(folder)))
        demo.send_signal(number)
        demo.communicate()
    assert demo.returncode == code
    until(lambda: not processes_in(folder))  # killed, the demo cannot wait for its children


def until(holds: Callable[[], bool]) -> None:
    while not holds():  # pytest-timeout bounds it
        time.sleep(0.1)


def test_a_folder_with_an_earlier_run_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "littoral.db").touch()
    done = subprocess.run([*DEMO, "--dir", str(tmp_path)], cwd=PACKAGES, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is not empty" in done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["littoral.db"]
