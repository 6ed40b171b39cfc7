"""Why the agent is up again."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.events import lives
from edge.events.lives import Life, living, started
from edge.foundation.events import Event, Severity


def start(folder: Path, version: str = "1.0") -> Event:
    """Of a life that ends in order."""
    with living(folder, version) as told:
        return told


def killed(folder: Path) -> None:
    """A life that comes to no end of its own: what lay on the disk in its midst lies there afterwards."""
    with living(folder, "1.0"):
        left = (folder / lives.FILE).read_bytes()
    (folder / lives.FILE).write_bytes(left)


def test_the_first_start_on_a_folder_is_told_as_that(tmp_path: Path) -> None:
    told = start(tmp_path)
    assert (told.kind, told.severity) == ("agent.started", Severity.INFO)
    assert "the first time" in told.text


def test_a_start_after_an_end_in_order_says_so(tmp_path: Path) -> None:
    start(tmp_path)
    told = start(tmp_path)
    assert (told.severity, told.text) == (Severity.INFO, "agent 1.0 started: before, it was stopped in order")


def test_a_start_after_a_kill_is_a_warning(tmp_path: Path) -> None:
    killed(tmp_path)
    told = start(tmp_path)
    assert told.severity is Severity.WARNING
    assert "killed" in told.text


def test_a_start_after_a_failure_says_which(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no room"), living(tmp_path, "1.0"):
        raise OSError("no room")
    told = start(tmp_path)
    assert (told.severity, told.text) == (Severity.WARNING, "agent 1.0 started: before, it failed: no room")


def test_of_several_failures_at_once_the_first_is_told(tmp_path: Path) -> None:
    with pytest.raises(ExceptionGroup), living(tmp_path, "1.0"):
        raise ExceptionGroup("tasks", [ValueError("the first"), ValueError("the second")])
    assert start(tmp_path).text.endswith("it failed: the first")


def test_a_start_after_the_machine_went_down_says_so() -> None:
    told = started(Life("1.0", boot="a"), Life("1.0", boot="b"))
    assert told.severity is Severity.WARNING
    assert "power was cut" in told.text


def test_another_version_is_told(tmp_path: Path) -> None:
    start(tmp_path, "1.0")
    assert start(tmp_path, "1.1").text.startswith("agent 1.1 started in place of 1.0")


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"version": 1, "boot": 2'])
def test_a_damaged_word_of_the_life_before_ends_nothing(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / lives.FILE).write_bytes(damage)
    assert start(tmp_path).kind == "agent.started"


def test_where_it_cannot_be_written_down_the_agent_starts_all_the_same(tmp_path: Path) -> None:
    assert start(tmp_path / "no folder").kind == "agent.started"
