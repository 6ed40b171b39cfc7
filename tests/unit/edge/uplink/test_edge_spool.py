"""What comes one at a time, on its way into an outbox."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edge.uplink.entities import OutboxFailed
from edge.uplink.outbox import Outbox
from edge.uplink.spool import Spool

PLENTY = 1 << 30


def opened(folder: Path) -> Outbox:
    return Outbox.open(folder / "telemetry.db", PLENTY)


def payloads(outbox: Outbox) -> list[bytes]:
    return [batch.payload for batch in outbox.after(0, 1000)]


def test_what_was_put_is_written_in_order_and_once(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    spool = Spool(outbox, "s", most=9)
    spool.put(b"a")
    spool.put(b"b")
    asyncio.run(spool.write())
    asyncio.run(spool.write())
    assert payloads(outbox) == [b"a", b"b"]


def test_a_later_life_goes_on_with_the_numbers(tmp_path: Path) -> None:
    for payload in (b"a", b"b"):
        outbox = opened(tmp_path)
        spool = Spool(outbox, "s", most=9)
        spool.put(payload)
        asyncio.run(spool.write())
        outbox.close()
    assert payloads(opened(tmp_path)) == [b"a", b"b"]


def test_what_cannot_be_written_waits_and_of_too_much_the_oldest_are_given_up(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    spool = Spool(outbox, "s", most=2)
    outbox._database.execute("PRAGMA max_page_count = 1")
    for payload in (b"a" * 5000, b"b", b"c"):
        spool.put(payload)
        if len(payload) > 1:
            with pytest.raises(OutboxFailed):
                asyncio.run(spool.write())
    outbox._database.execute("PRAGMA max_page_count = 100000")
    asyncio.run(spool.write())
    assert payloads(outbox) == [b"b", b"c"]
    assert spool.given_up == 1


def test_a_write_that_was_broken_off_and_is_begun_again_writes_nothing_twice(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    spool = Spool(outbox, "s", most=9)
    spool.put(b"a")

    async def broken_off() -> None:
        writing = asyncio.create_task(spool.write())
        await asyncio.sleep(0)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await spool.write()

    asyncio.run(broken_off())
    assert payloads(outbox) == [b"a"]


def test_what_has_a_number_in_a_series_is_written_once_in_all_lives(tmp_path: Path) -> None:
    for _ in range(2):
        outbox = opened(tmp_path)
        spool = Spool(outbox, "s", most=9)
        spool.put(b"unnumbered")
        spool.put(b"of the series", "series", 5)
        asyncio.run(spool.write())
        outbox.close()
    assert payloads(opened(tmp_path)) == [b"unnumbered", b"of the series", b"unnumbered"]
