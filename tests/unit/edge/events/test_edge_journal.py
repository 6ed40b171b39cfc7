"""The journal on a real outbox."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from edge.events.service import Journal
from edge.foundation.events import Event, Severity
from edge.uplink.outbox import Outbox
from protos import topics
from protos.v1 import uplink_pb2
from protos.v1.uplink_pb2 import EventBatch
from tests.waiting import eventually


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox.open(tmp_path / "events.db", 1 << 30)


def written(outbox: Outbox) -> list[uplink_pb2.Event]:
    return [EventBatch.FromString(batch.payload).events[0] for batch in outbox.after(0, 1000)]


def play(outbox: Outbox, scene: Callable[[Journal], Awaitable[None]], now_s: Callable[[], float] = lambda: 0.0) -> None:
    """A life of a journal, ended in order after the scene."""

    async def main() -> None:
        journal = Journal(outbox, now_ms=lambda: 1234, now_s=now_s)
        running = asyncio.create_task(journal.run())
        await scene(journal)
        await asyncio.sleep(0)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    asyncio.run(main())


def tell(*events: Event) -> Callable[[Journal], Awaitable[None]]:
    async def scene(journal: Journal) -> None:
        for event in events:
            journal.tell(event)

    return scene


def test_an_event_is_written_with_all_that_is_known_of_it(outbox: Outbox) -> None:
    play(outbox, tell(Event("update.refused", "it crashed", Severity.WARNING, "default", "digits", 3)))
    assert written(outbox) == [
        uplink_pb2.Event(
            happened_ms=1234,
            kind="update.refused",
            severity=uplink_pb2.SEVERITY_WARNING,
            slot="default",
            model="digits",
            version=3,
            text="it crashed",
        )
    ]


def test_an_event_that_tells_when_it_happened_is_believed(outbox: Outbox) -> None:
    play(outbox, tell(Event("a.b", "", happened_ms=77)))
    assert [event.happened_ms for event in written(outbox)] == [77]


def test_it_is_written_while_the_agent_lives(outbox: Outbox) -> None:
    async def scene(journal: Journal) -> None:
        journal.tell(Event("a.b", "now"))
        await eventually(lambda: outbox.depth().rows == 1)

    play(outbox, scene)


def test_a_long_text_is_cut(outbox: Outbox) -> None:
    play(outbox, tell(Event("a.b", "ä" * 5000)))
    assert written(outbox)[0].text == "ä" * topics.MAX_EVENT_TEXT


def test_what_was_counted_is_written_when_the_agent_ends(outbox: Outbox) -> None:
    play(outbox, tell(*[Event("a.b", f"{n}") for n in range(5)]))
    assert [(event.text, event.times) for event in written(outbox)] == [("0", 0), ("4", 4)]


def test_a_numbered_event_that_a_new_life_tells_again_is_written_once(outbox: Outbox) -> None:
    end = Event("update.committed", "", series="default", number=7)
    for _ in range(3):
        play(outbox, tell(Event("agent.started", ""), end))
    play(outbox, tell(Event("update.committed", "", series="doors", number=7)))
    play(outbox, tell(Event("update.committed", "", series="default", number=8, about="8")))
    assert [event.kind for event in written(outbox)].count("update.committed") == 3
    assert [event.kind for event in written(outbox)].count("agent.started") == 3


def test_a_number_beyond_what_a_database_holds_ends_nothing(outbox: Outbox) -> None:
    play(outbox, tell(Event("a.b", "", series="s", number=2**64), Event("c.d", "")))
    assert [event.kind for event in written(outbox)] == ["a.b", "c.d"]


def test_on_a_full_disk_events_wait_and_are_written_once_when_there_is_room(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.events.service.RETRY_S", 0.01)
    outbox._database.execute("PRAGMA max_page_count = 1")

    async def scene(journal: Journal) -> None:
        for n in range(100):
            journal.tell(Event("a.b", "x" * 400, about=str(n % 15)))
        await asyncio.sleep(0.1)
        assert outbox.depth().rows == 0
        outbox._database.execute("PRAGMA max_page_count = 100000")
        await eventually(lambda: outbox.depth().rows == 15)

    play(outbox, scene)
    assert [event.times for event in written(outbox)] == [0] * 15 + [6] * 10 + [5] * 5


def test_a_text_of_any_bytes_becomes_one_plain_line(outbox: Outbox) -> None:
    play(outbox, tell(Event("a.b", "no file \udcff\0x\n  in\tthere", times=2**40)))
    assert [(event.text, event.times) for event in written(outbox)] == [("no file \ufffd\ufffdx in there", 2**32 - 1)]
