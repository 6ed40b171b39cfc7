"""A real outbox and a real gRPC stream against an ingest that cuts it, forgets, delays and refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import func, select

from cloud.uplink import tables
from edge.uplink.entities import NewBatch
from edge.uplink.outbox import Outbox
from edge.uplink.rpc import State, Uplink
from protos.kit.kinds import Kind
from protos.v1.sketches_pb2 import Drift
from protos.v1.uplink_pb2 import PACKING_ZSTD, Books, UplinkMessage
from simulators.ports import free_port
from tests.integration.simulated_ingest import Faults, SimulatedIngest, listening
from tests.integration.uplink_kit import batch as encoded
from tests.integration.uplink_kit import running_cloud
from tests.waiting import eventually


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox.open(tmp_path / "outbox.db", 1 << 30)


def append(outbox: Outbox, first: int, last: int) -> list[bytes]:
    """Batches named by their number, of one to three results."""
    names = range(first, last + 1)
    outbox.append([NewBatch(1 + n % 3, f"batch {n}".encode(), "s", n) for n in names])
    return [f"batch {n}".encode() for n in names]


@asynccontextmanager
async def streaming(outbox: Outbox, port: int) -> AsyncIterator[Uplink]:
    uplink = Uplink(f"127.0.0.1:{port}", "edge-1", outbox, chance=lambda: 0.05)
    running = asyncio.create_task(uplink.run())
    try:
        yield uplink
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def play(outbox: Outbox, ingest: SimulatedIngest, scene: Callable[[Uplink], Awaitable[None]] | None = None) -> None:
    """Stream to `ingest`; after the scene, until the outbox is empty."""

    async def main() -> None:
        async with listening(ingest) as port, streaming(outbox, port) as uplink:
            if scene:
                await scene(uplink)
            await eventually(lambda: outbox.depth().rows == 0)

    asyncio.run(main())


def test_everything_arrives_once_in_order_and_leaves_the_outbox(outbox: Outbox) -> None:
    ingest, names = SimulatedIngest(), append(outbox, 1, 200)
    play(outbox, ingest)
    assert ingest.payloads == names
    assert ingest.streams == 1


def test_no_more_than_the_window_is_unacknowledged(outbox: Outbox) -> None:
    ingest = SimulatedIngest(window=3, faults=Faults(lose_ack=0.9))
    append(outbox, 1, 100)
    play(outbox, ingest)
    assert ingest.most_unacknowledged == 3


def test_new_results_are_sent_as_they_come(outbox: Outbox) -> None:
    ingest, names = SimulatedIngest(), []

    async def scene(_: Uplink) -> None:
        for n in range(1, 31):
            names.extend(append(outbox, n, n))
            await eventually(lambda: len(ingest.stored) == len(names))

    play(outbox, ingest, scene)
    assert ingest.payloads == names


@pytest.mark.parametrize("seed", range(3))
def test_cut_streams_and_lost_acknowledgements_lose_and_double_nothing(outbox: Outbox, seed: int) -> None:
    faults = Faults(cut=0.15, lose_ack=0.4)
    faults.chance.seed(seed)
    ingest, names = SimulatedIngest(faults=faults), append(outbox, 1, 50)

    async def scene(_: Uplink) -> None:
        for n in range(51, 251, 20):
            names.extend(append(outbox, n, n + 19))
            await asyncio.sleep(0.01)

    play(outbox, ingest, scene)
    assert ingest.payloads == names
    assert ingest.streams > 5


def test_a_restarted_device_resends_only_what_the_server_lacks(tmp_path: Path) -> None:
    ingest = SimulatedIngest(faults=Faults(cut=0.2, lose_ack=0.3))
    names: list[bytes] = []

    async def main() -> None:
        async with listening(ingest) as port:
            for life in range(5):
                outbox = Outbox.open(tmp_path / "outbox.db", 1 << 30)
                names.extend(append(outbox, 1 + 20 * life, 20 + 20 * life))
                async with streaming(outbox, port):
                    await eventually(lambda wanted=10 * life: len(ingest.stored) > wanted)
                outbox.close()
            outbox = Outbox.open(tmp_path / "outbox.db", 1 << 30)
            async with streaming(outbox, port):
                await eventually(lambda: outbox.depth().rows == 0)

    asyncio.run(main())
    assert ingest.payloads == names


def test_a_batch_set_aside_stops_nothing(outbox: Outbox) -> None:
    names = append(outbox, 1, 30)
    ingest = SimulatedIngest(poison=frozenset(names[4:6]))
    play(outbox, ingest)
    assert ingest.quarantined == names[4:6]
    assert ingest.payloads == names[:4] + names[6:]


def test_nothing_is_sent_while_the_server_asks_for_silence(outbox: Outbox) -> None:
    ingest = SimulatedIngest(delay_first_ms=300)

    async def scene(uplink: Uplink) -> None:
        await eventually(lambda: uplink.state is State.STREAMING)
        await asyncio.sleep(0.1)
        append(outbox, 1, 5)

    play(outbox, ingest, scene)
    assert min(ingest.batches_after_s) >= 0.3


def test_results_dropped_by_the_policy_are_a_gap_that_stops_nothing(tmp_path: Path) -> None:
    outbox = Outbox.open(tmp_path / "outbox.db", 100)
    names = append(outbox, 1, 50)
    kept = names[-(outbox.depth().bytes // len(names[-1])) :]
    ingest = SimulatedIngest()
    play(outbox, ingest)
    assert ingest.payloads == kept
    assert outbox.depth().dropped > 0


def test_the_greeting_says_how_the_outbox_stands(tmp_path: Path) -> None:
    outbox = Outbox.open(tmp_path / "outbox.db", 100)
    append(outbox, 1, 50)
    ledger, ingest = outbox.ledger, SimulatedIngest()
    play(outbox, ingest)
    assert ingest.books[0] == Books(last_seq=ledger.last_seq, dropped=ledger.dropped, waiting=ledger.rows)
    assert ledger.dropped + ledger.rows == ledger.last_seq


def test_why_numbers_are_left_out_is_said_before_the_batch_that_follows_them(tmp_path: Path) -> None:
    outbox = Outbox.open(tmp_path / "outbox.db", 100)
    ingest, said_with_batch = SimulatedIngest(delay_first_ms=300), []

    async def scene(uplink: Uplink) -> None:
        await eventually(lambda: uplink.state is State.STREAMING)
        append(outbox, 1, 50)  # more than it holds, while nothing may be sent
        await eventually(lambda: bool(ingest.stored))
        said_with_batch.extend(ingest.books)

    play(outbox, ingest, scene)
    first = ingest.stored[0][1]
    assert first > 1
    assert said_with_batch[-1].dropped == first - 1


def test_a_server_that_knows_a_later_life_gets_everything_in_a_new_epoch(outbox: Outbox) -> None:
    names, before = append(outbox, 1, 20), outbox.epoch
    ingest = SimulatedIngest()
    ingest.shelves[Kind.RESULTS].watermarks[before] = 10_000
    play(outbox, ingest)
    assert outbox.epoch != before
    assert ingest.payloads == names
    assert {epoch for epoch, _, _ in ingest.stored} == {outbox.epoch}


def test_a_server_that_forgot_goes_on_with_what_is_still_held(outbox: Outbox) -> None:
    append(outbox, 1, 20)
    first, second = SimulatedIngest(), SimulatedIngest()
    play(outbox, first)
    names = append(outbox, 21, 30)
    play(outbox, second)
    assert second.payloads == names


def test_a_batch_too_large_for_the_server_is_kept_until_it_takes_it(outbox: Outbox) -> None:
    outbox.append([NewBatch(1, b"x" * 500, "s", 1)])
    ingest = SimulatedIngest(max_batch_bytes=100)

    async def scene(_: Uplink) -> None:
        await eventually(lambda: ingest.streams > 3)
        assert outbox.depth().rows == 1
        ingest.max_batch_bytes = 1000

    play(outbox, ingest, scene)
    assert ingest.payloads == [b"x" * 500]


@pytest.mark.parametrize("reads", [True, False])
def test_batches_are_packed_for_a_server_that_reads_it_and_for_no_other(outbox: Outbox, *, reads: bool) -> None:
    payloads = [encoded(first, 500) for first in range(1, 5001, 500)]
    outbox.append([NewBatch(500, payload, "s", n) for n, payload in enumerate(payloads, 1)])
    ingest = SimulatedIngest(packings=(PACKING_ZSTD,) if reads else ())
    play(outbox, ingest)
    assert ingest.payloads == payloads
    assert ingest.packed == (len(payloads) if reads else 0)


def test_what_one_slot_tells_does_not_take_the_place_of_what_another_told(outbox: Outbox) -> None:
    ingest = SimulatedIngest()

    async def main() -> None:
        async with listening(ingest) as port:
            uplink = Uplink(f"127.0.0.1:{port}", "edge-1", outbox)
            for slot, version in (("default", 1), ("audio", 1), ("default", 2)):
                uplink.offer(UplinkMessage(drift=Drift(slot=slot, version=version)))
            running = asyncio.create_task(uplink.run())
            await eventually(lambda: len(ingest.drifts) == 2)
            running.cancel()

    asyncio.run(main())
    assert {drift.slot: drift.version for drift in ingest.drifts} == {"default": 2, "audio": 1}


def test_a_server_that_comes_later_is_found(outbox: Outbox) -> None:
    port = free_port()
    ingest, names = SimulatedIngest(), append(outbox, 1, 10)

    async def main() -> None:
        async with streaming(outbox, port) as uplink:
            await asyncio.sleep(0.2)
            assert uplink.state is State.WAITING
            async with listening(ingest, port):
                await eventually(lambda: outbox.depth().rows == 0)
                assert uplink.state is State.STREAMING
            await eventually(lambda: uplink.state is State.WAITING)

    asyncio.run(main())
    assert ingest.payloads == names


def test_an_outbox_of_seven_days_is_drained_whole(database_url: str, outbox: Outbox) -> None:
    """A result a second and a batch a minute while the cloud was away; the device goes on meanwhile."""
    minutes, rows = 7 * 24 * 60, 60
    outbox.append([NewBatch(rows, encoded(1 + n * rows, rows), "camera", (n + 1) * rows) for n in range(minutes)])

    async def main() -> tuple[int, ...]:
        async with running_cloud(database_url) as cloud:
            async with streaming(outbox, int(cloud.address.rpartition(":")[2])):
                await eventually(lambda: outbox.ledger.acknowledged > 0)
                outbox.append([NewBatch(rows, encoded(1 + minutes * rows, rows), "camera", (minutes + 1) * rows)])
                await eventually(lambda: outbox.depth().rows == 0)
            with cloud.database.reading() as connection:
                seq = tables.results.c.seq
                wanted = select(func.count(), func.count(seq.distinct()), func.min(seq), func.max(seq))
                return tuple(connection.execute(wanted).one())

    every = (minutes + 1) * rows
    assert outbox.depth().rows == minutes * rows
    assert asyncio.run(main()) == (every, every, 1, every)


def test_the_real_ingest_stores_every_result_under_its_number(database_url: str, outbox: Outbox) -> None:
    async def main() -> list[int]:
        async with running_cloud(database_url) as cloud:
            async with streaming(outbox, int(cloud.address.rpartition(":")[2])):
                for first in range(1, 1001, 50):
                    outbox.append([NewBatch(50, encoded(first, 50), "camera", first + 49)])
                await eventually(lambda: outbox.depth().rows == 0)
            return cloud.stored(epoch=outbox.epoch)

    assert asyncio.run(main()) == list(range(1, 1001))
