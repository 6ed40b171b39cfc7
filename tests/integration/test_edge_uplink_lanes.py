"""Results, events and telemetry on one stream, each under numbers of its own, against an ingest with faults."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from edge.foundation.events import Event
from edge.uplink.entities import NewBatch
from edge.uplink.outbox import Outbox
from edge.uplink.rpc import Uplink
from protos.kit.kinds import Kind
from protos.v1.sketches_pb2 import Drift
from protos.v1.uplink_pb2 import UplinkMessage
from tests.integration import uplink_processes as processes
from tests.integration.simulated_ingest import Faults, SimulatedIngest, listening
from tests.integration.uplink_processes import acknowledged, kill, start
from tests.waiting import eventually

ROUNDS = 100
DEVICES = 2

Outboxes = Mapping[Kind, Outbox]


def opened(folder: Path, max_bytes: int = 1 << 30) -> Outboxes:
    return {kind: Outbox.open(folder / f"{kind}.db", max_bytes) for kind in Kind}


@pytest.fixture
def outboxes(tmp_path: Path) -> Outboxes:
    return opened(tmp_path)


def append(outbox: Outbox, first: int, last: int) -> list[bytes]:
    payloads = [f"batch {n}".encode() for n in range(first, last + 1)]
    outbox.append([NewBatch(1, payload, "s", n) for n, payload in enumerate(payloads, first)])
    return payloads


@asynccontextmanager
async def streaming(outboxes: Outboxes, port: int, rate: float = 0.0) -> Any:
    beside: dict[Kind, Outbox] = {kind: one for kind, one in outboxes.items() if kind is not Kind.RESULTS}
    uplink = Uplink(f"127.0.0.1:{port}", "edge-1", outboxes[Kind.RESULTS], lambda: 0.05, beside=beside)
    uplink.rate = rate
    running = asyncio.create_task(uplink.run())
    try:
        yield uplink
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def play(outboxes: Outboxes, ingest: SimulatedIngest, until: Callable[[], bool] | None = None) -> None:
    """Stream to `ingest` until all outboxes are empty, or something else."""

    async def main() -> None:
        async with listening(ingest) as port, streaming(outboxes, port):
            await eventually(until or (lambda: not any(outbox.depth().rows for outbox in outboxes.values())))

    asyncio.run(main())


def test_each_kind_arrives_once_and_in_order_under_numbers_of_its_own(outboxes: Outboxes) -> None:
    ingest, names = SimulatedIngest(), {kind: append(outbox, 1, 100) for kind, outbox in outboxes.items()}
    play(outboxes, ingest)
    assert {kind: ingest.shelves[kind].payloads for kind in Kind} == names
    for kind, outbox in outboxes.items():
        assert [(epoch, seq) for epoch, seq, _ in ingest.shelves[kind].stored] == [
            (outbox.epoch, n) for n in range(1, 101)
        ]
    assert ingest.streams == 1


def test_each_kind_has_a_window_of_its_own(outboxes: Outboxes) -> None:
    ingest = SimulatedIngest(window=3, faults=Faults(lose_ack=0.9))
    for outbox in outboxes.values():
        append(outbox, 1, 30)
    play(outboxes, ingest)
    assert ingest.most_unacknowledged == 3


def test_what_an_older_server_does_not_take_waits_and_results_flow(outboxes: Outboxes) -> None:
    ingest = SimulatedIngest(kinds=(Kind.RESULTS,))
    for outbox in outboxes.values():
        append(outbox, 1, 20)
    play(outboxes, ingest, lambda: outboxes[Kind.RESULTS].depth().rows == 0)
    assert {kind: outbox.depth().rows for kind, outbox in outboxes.items()} == {
        Kind.RESULTS: 0,
        Kind.EVENTS: 20,
        Kind.TELEMETRY: 20,
    }
    assert {books.kind for books in ingest.books[len(Kind) :]} <= {Kind.RESULTS}, "only the greeting speaks of them"


def test_what_has_waited_for_a_newer_server_is_sent_once_it_is_there(outboxes: Outboxes) -> None:
    names = append(outboxes[Kind.EVENTS], 1, 20)
    play(outboxes, SimulatedIngest(kinds=(Kind.RESULTS,)), lambda: True)
    newer = SimulatedIngest()
    play(outboxes, newer)
    assert newer.events == names


@pytest.mark.parametrize("seed", range(3))
def test_cut_streams_and_lost_acknowledgements_lose_and_double_nothing_of_any_kind(
    outboxes: Outboxes, seed: int
) -> None:
    faults = Faults(cut=0.1, lose_ack=0.4)
    faults.chance.seed(seed)
    ingest, names = SimulatedIngest(faults=faults), {kind: append(outbox, 1, 40) for kind, outbox in outboxes.items()}
    play(outboxes, ingest)
    assert {kind: ingest.shelves[kind].payloads for kind in Kind} == names
    assert ingest.streams > 5


def test_a_stream_cut_at_every_message_loses_and_doubles_nothing_of_any_kind(outboxes: Outboxes) -> None:
    most = 40
    ingest = SimulatedIngest(faults=Faults(messages=list(range(1, most + 1))))
    names: dict[Kind, list[bytes]] = {kind: [] for kind in Kind}

    async def main() -> None:
        async with listening(ingest) as port, streaming(outboxes, port):
            for life in range(most + 1):  # each stream has more to send than it lives to
                for kind, outbox in outboxes.items():
                    names[kind] += append(outbox, life * 40 + 1, life * 40 + 40)
                await eventually(lambda life=life: ingest.streams > life)  # type: ignore[misc]
            await eventually(lambda: not any(outbox.depth().rows for outbox in outboxes.values()))

    asyncio.run(main())
    assert not ingest.faults.messages
    assert {kind: ingest.shelves[kind].payloads for kind in Kind} == names


def test_a_batch_set_aside_stops_nothing_and_is_told_unless_it_is_itself_an_event(outboxes: Outboxes) -> None:
    told: list[Event] = []
    names = {kind: append(outbox, 1, 10) for kind, outbox in outboxes.items()}
    ingest = SimulatedIngest(poison=frozenset(names[Kind.EVENTS][3:4]))

    async def main() -> None:
        async with listening(ingest) as port, streaming(outboxes, port) as uplink:
            uplink.tell = told.append
            await eventually(lambda: not any(outbox.depth().rows for outbox in outboxes.values()))

    asyncio.run(main())
    assert len(ingest.quarantined) == len(Kind)
    assert sorted(event.about for event in told) == ["results", "telemetry"]
    assert {event.kind for event in told} == {"uplink.set_aside"}
    assert all("poison" in event.text for event in told)


def test_a_server_that_knows_a_later_life_of_one_kind_gets_that_kind_in_a_new_epoch(outboxes: Outboxes) -> None:
    names = {kind: append(outbox, 1, 10) for kind, outbox in outboxes.items()}
    before = {kind: outbox.epoch for kind, outbox in outboxes.items()}
    told: list[Event] = []
    ingest = SimulatedIngest()
    ingest.shelves[Kind.EVENTS].watermarks[before[Kind.EVENTS]] = 10_000

    async def main() -> None:
        async with listening(ingest) as port, streaming(outboxes, port) as uplink:
            uplink.tell = told.append
            await eventually(lambda: not any(outbox.depth().rows for outbox in outboxes.values()))

    asyncio.run(main())
    assert {kind: ingest.shelves[kind].payloads for kind in Kind} == names
    assert [kind for kind, outbox in outboxes.items() if outbox.epoch != before[kind]] == [Kind.EVENTS]
    assert [(event.kind, event.about) for event in told] == [("uplink.epoch_began", "events")]


def test_a_server_that_forgot_is_told_of(outboxes: Outboxes) -> None:
    append(outboxes[Kind.TELEMETRY], 1, 10)
    play(outboxes, SimulatedIngest())
    names = append(outboxes[Kind.TELEMETRY], 11, 12)
    forgetful, told = SimulatedIngest(), list[Event]()

    async def main() -> None:
        async with listening(forgetful) as port, streaming(outboxes, port) as uplink:
            uplink.tell = told.append
            await eventually(lambda: outboxes[Kind.TELEMETRY].depth().rows == 0)

    asyncio.run(main())
    assert forgetful.telemetry == names
    assert [(event.kind, event.about) for event in told] == [("uplink.forgotten", "telemetry")]
    assert "at most 10" in told[0].text


def test_the_greeting_and_the_books_before_a_gap_name_their_kind(tmp_path: Path) -> None:
    outboxes = opened(tmp_path, max_bytes=100)
    for kind, outbox in outboxes.items():
        append(outbox, 1, 30 + kind)
    ingest = SimulatedIngest()
    play(outboxes, ingest)
    greeted = {books.kind: books for books in ingest.books[: len(Kind)]}
    assert {kind: books.last_seq for kind, books in greeted.items()} == {kind: 30 + kind for kind in Kind}
    assert all(books.dropped for books in greeted.values())


def test_at_a_limited_rate_what_is_new_overtakes_the_results_that_wait(outboxes: Outboxes) -> None:
    ingest, names = SimulatedIngest(), append(outboxes[Kind.RESULTS], 1, 3)

    async def main() -> None:
        async with listening(ingest) as port, streaming(outboxes, port, rate=1.0) as uplink:
            await eventually(lambda: len(ingest.payloads) == 1)
            for number in (1, 2):
                append(outboxes[Kind.TELEMETRY], number, number)
                append(outboxes[Kind.EVENTS], number, number)
                uplink.offer(UplinkMessage(drift=Drift(version=number)))
                await eventually(lambda number=number: len(ingest.telemetry) == number)  # type: ignore[misc]
                await eventually(lambda number=number: len(ingest.events) == number)  # type: ignore[misc]
                await eventually(lambda number=number: len(ingest.drifts) == number)  # type: ignore[misc]
            assert ingest.payloads == names[:1]  # at a byte a second the next one is not due yet

    asyncio.run(main())


@pytest.mark.parametrize("long", Kind)
def test_a_backlog_of_one_kind_starves_no_other(outboxes: Outboxes, long: Kind) -> None:
    """At a rate at which the backlog would take minutes; what the others have goes meanwhile."""
    payload = bytes(1000)
    outboxes[long].append([NewBatch(1, payload, "s", n) for n in range(1, 5001)])
    for kind, outbox in outboxes.items():
        if kind is not long:
            outbox.append([NewBatch(1, payload, "s", n) for n in range(1, 51)])
    ingest = SimulatedIngest(window=16)

    async def main() -> None:
        async with listening(ingest) as port, streaming(outboxes, port, rate=250_000.0):
            others = [outbox for kind, outbox in outboxes.items() if kind is not long]
            await eventually(lambda: not any(outbox.depth().rows for outbox in others))

    asyncio.run(main())
    assert 0 < len(ingest.shelves[long].stored) < 1000


def test_while_a_kind_has_no_room_in_its_window_the_others_flow(outboxes: Outboxes) -> None:
    names = append(outboxes[Kind.RESULTS], 1, 100)
    append(outboxes[Kind.EVENTS], 1, 10)
    deaf = Deaf()

    async def main() -> None:
        async with listening(deaf) as port, streaming(outboxes, port):
            await eventually(lambda: outboxes[Kind.RESULTS].depth().rows == 0)

    asyncio.run(main())
    assert deaf.payloads == names
    assert outboxes[Kind.EVENTS].depth().rows == 10


class Deaf(SimulatedIngest):
    """It commits events, and never says so."""

    def owes(self, kind: int) -> bool:
        return kind != Kind.EVENTS


def test_kills_of_devices_lose_and_double_nothing_of_any_kind(tmp_path: Path) -> None:
    """Killed by SIGKILL at random while the ingest cuts streams and loses acknowledgements."""
    chance = random.Random(7)
    ingests = [SimulatedIngest(faults=Faults(cut=0.02, lose_ack=0.2)) for _ in range(DEVICES)]

    async def live(number: int) -> None:
        folder = tmp_path / f"edge-{number}"
        folder.mkdir()
        stop, ingest = folder / "stop", ingests[number]
        async with listening(ingest) as port:
            for _ in range(ROUNDS // DEVICES):
                arguments = (f"127.0.0.1:{port}", f"edge-{number}", folder, stop, 200.0)
                running = await asyncio.to_thread(start, processes.device_of_kinds, *arguments)
                await asyncio.sleep(chance.random() * 0.4)
                await asyncio.to_thread(kill, running)
                for kind in Kind:
                    told = acknowledged(folder / f"{kind}.db")
                    assert max(ingest.shelves[kind].watermarks.values(), default=0) >= told
            running = await asyncio.to_thread(start, processes.device_of_kinds, *arguments)
            # On a slow disk a killed life may have been too short for anything: the last one is not.
            await eventually(lambda: all(ingest.shelves[kind].stored for kind in Kind))
            stop.touch()
            await asyncio.to_thread(running.join, 60)
            assert running.exitcode == 0, "it could not send everything"
        for kind in Kind:
            shelf = ingest.shelves[kind]
            assert [payload for _, _, payload in shelf.stored] == [b"%d" % n for n in range(1, len(shelf.stored) + 1)]
            assert len({epoch for epoch, _, _ in shelf.stored}) == 1
            with_all = Outbox.open(folder / f"{kind}.db", 1 << 30)
            assert with_all.source_watermark(processes.SOURCE) == len(shelf.stored) > 0
            with_all.close()

    async def main() -> None:
        await asyncio.gather(*(live(number) for number in range(DEVICES)))

    asyncio.run(main())


def test_an_outbox_beside_that_its_disk_has_damaged_holds_back_no_results(outboxes: Outboxes, tmp_path: Path) -> None:
    outboxes[Kind.EVENTS].append([NewBatch(1, bytes(1000), "s", n) for n in range(1, 5001)])
    damage(outboxes[Kind.EVENTS], tmp_path / f"{Kind.EVENTS}.db")
    names = append(outboxes[Kind.RESULTS], 1, 100)
    ingest, told = SimulatedIngest(), list[Event]()

    async def main() -> None:
        async with listening(ingest) as port, streaming(outboxes, port) as uplink:
            uplink.tell = told.append
            await eventually(lambda: outboxes[Kind.RESULTS].depth().rows == 0)

    asyncio.run(main())
    assert ingest.payloads == names
    assert ingest.streams == 1
    assert {(event.kind, event.about) for event in told} == {("uplink.outbox_failed", "events")}


def test_an_outbox_beside_that_has_failed_is_asked_again(outboxes: Outboxes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.uplink.lane.RETRY_S", 0.1)
    names, told, ingest = append(outboxes[Kind.TELEMETRY], 1, 100), list[Event](), SimulatedIngest()
    database = outboxes[Kind.TELEMETRY]._database

    async def main() -> None:
        async with listening(ingest) as port, streaming(outboxes, port) as uplink:
            uplink.tell = told.append
            database.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)
            await eventually(lambda: bool(told))
            database.set_authorizer(None)
            await eventually(lambda: outboxes[Kind.TELEMETRY].depth().rows == 0)

    asyncio.run(main())
    assert ingest.telemetry == names
    assert ingest.streams == 1


def damage(outbox: Outbox, path: Path) -> None:
    """While it is open, and larger than what SQLite remembers of it."""
    outbox._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * (path.stat().st_size - 8192))
