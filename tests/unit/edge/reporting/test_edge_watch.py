"""What the watch tells of, looked at by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.foundation.events import Event, Severity
from edge.reporting.watch import Watch
from edge.uplink.entities import NewBatch
from edge.uplink.outbox import Outbox


class Looking:
    """A watch over these alarms and an outbox of three batches."""

    def __init__(self, folder: Path) -> None:
        self.alarms: list[str] = []
        self.told: list[Event] = []
        self.outbox = Outbox.open(folder / "outbox.db", max_bytes=30)
        self.watch = Watch(lambda: self.alarms, self.outbox, self.told.append)

    def look(self, *alarms: str) -> list[tuple[str, str]]:
        """What it tells of now."""
        self.alarms = list(alarms)
        self.told.clear()
        self.watch.look()
        return [(event.kind, event.text) for event in self.told]

    def append(self, first: int, last: int) -> None:
        self.outbox.append([NewBatch(1, b"x" * 10, "s", n) for n in range(first, last + 1)])


@pytest.fixture
def looking(tmp_path: Path) -> Looking:
    return Looking(tmp_path)


def test_an_alarm_is_told_when_it_begins_and_when_it_ends(looking: Looking) -> None:
    assert looking.look() == []
    assert looking.look("it drifts") == [("alarm.began", "it drifts")]
    assert looking.look("it drifts") == []
    assert looking.look() == [("alarm.ended", "it drifts")]


def test_an_alarm_whose_numbers_change_goes_on(looking: Looking) -> None:
    looking.look("it expired at 2026-01-01T10:00:00+00:00, it is 10:00:01 here")
    assert looking.look("it expired at 2026-01-01T10:00:00+00:00, it is 10:00:02 here") == []


def test_alarms_are_told_apart(looking: Looking) -> None:
    looking.look("one")
    assert looking.look("one", "another") == [("alarm.began", "another")]
    assert looking.look("another") == [("alarm.ended", "one")]


def test_results_that_the_outbox_dropped_are_told_with_their_number(looking: Looking) -> None:
    looking.append(1, 3)
    assert looking.look() == []
    looking.append(4, 5)
    ((kind, text),) = looking.look()
    assert (kind, looking.told[0].severity, looking.told[0].number) == ("uplink.results_dropped", Severity.ERROR, 2)
    assert "2 results" in text
    assert looking.look() == []


def test_a_new_life_tells_what_was_dropped_under_the_number_of_the_life_before(tmp_path: Path) -> None:
    told = []
    for _ in range(2):
        looking = Looking(tmp_path)
        looking.append(1, 5)
        looking.look()
        told += looking.told
        looking.outbox.close()
    assert told[0] == told[1]
