"""`littoral audit results`, from real outboxes over gRPC into both databases, with what can go wrong done by hand."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from click.testing import CliRunner, Result
from fastapi import FastAPI
from sqlalchemy import select

from cloud.cli import littoral
from cloud.foundation.database import Database
from cloud.uplink import quarantine_routes, tables
from cloud.uplink.entities import DAY_MS, KnownVersion
from cloud.uplink.quarantine import Quarantine
from cloud.uplink.reading import KnownVersions
from cloud.uplink.routes import router
from cloud.uplink.service import Ingest
from edge.uplink.entities import NewBatch
from edge.uplink.outbox import Outbox
from edge.uplink.rpc import Uplink
from protos.kit.columns import decode, encode
from simulators.ports import free_port
from tests.integration.uplink_kit import batch, known, running_cloud, stored
from tests.waiting import eventually

ROWS = 10
BATCHES = 10
ALL = ROWS * BATCHES
DEVICE = "edge-1"


class Site:
    """A device's outbox, the cloud's database, and the command against an API on it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.database = Database(url)
        self.database.create()
        self.outbox = Outbox.open(folder / "outbox.db", 1 << 30)

    def append(self, first: int, count: int = BATCHES, poison: bytes = b"") -> None:
        firsts = range(first, first + count * ROWS, ROWS)
        made = [NewBatch(ROWS, poison or batch(one, ROWS), "camera", one + ROWS - 1) for one in firsts]
        self.outbox.append(made)

    def stream(self, until_rows: int = 0) -> None:
        """Connect, until no more than so many rows wait."""

        async def main() -> None:
            async with running_cloud(self.url) as cloud:
                streaming = asyncio.create_task(Uplink(cloud.address, DEVICE, self.outbox).run())
                await eventually(lambda: self.outbox.depth().rows <= until_rows)
                streaming.cancel()
                with suppress(asyncio.CancelledError):
                    await streaming

        asyncio.run(main())

    def audit(self) -> tuple[int, dict[str, Any]]:
        """The command's exit code and what it says of the device."""
        code, found = self.command("--json")
        (one,) = [one for one in json.loads(found) if one["device"] == DEVICE]
        return code, {name: one[name] for name in one if one[name] and name not in ("device", "said_ms")}

    def command(self, *flags: str) -> tuple[int, str]:
        return self.littoral("audit", "results", *flags)

    def littoral(self, *arguments: str, versions: KnownVersions = known) -> tuple[int, str]:
        """Exit code and output of a command, against an API that knows these versions."""
        with serving(self.database, versions) as address:
            ended: Result = CliRunner().invoke(littoral, [*arguments, "--api", address])
        return ended.exit_code, ended.stdout

    def sql(self, statement: Any) -> None:
        with self.database.transaction() as connection:
            connection.execute(statement)

    def close(self) -> None:
        self.outbox.close()
        self.database.close()


@contextmanager
def serving(database: Database, versions: KnownVersions) -> Iterator[str]:
    """The room's part of the API in a thread, and its address."""
    app = FastAPI()
    app.include_router(router(Ingest(database, known)))
    app.include_router(quarantine_routes.router(Quarantine(database, versions)))
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        thread.join(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[Site]:
    site = Site(database_url, tmp_path)
    yield site
    site.close()


r = tables.results.c


def test_when_all_is_stored_nothing_is_lost_and_nothing_doubled(site: Site) -> None:
    site.append(1)
    site.stream()
    assert site.audit() == (0, {"made": ALL, "sent": ALL, "stored": ALL})


def test_the_table_for_people_has_a_line_for_the_device_and_one_for_all(site: Site) -> None:
    site.append(1)
    site.stream()
    code, shown = site.command()
    assert code == 0
    assert DEVICE in shown
    assert [line.split()[1] for line in shown.splitlines() if str(ALL) in line] == [DEVICE, "all"]


def test_a_row_deleted_by_hand_is_lost_and_the_command_fails(site: Site) -> None:
    site.append(1)
    site.stream()
    site.sql(tables.results.delete().where(r.seq == 42))
    assert site.audit() == (1, {"made": ALL, "sent": ALL, "stored": ALL - 1, "lost": 1})


def test_a_row_inserted_by_hand_is_doubled_and_the_command_fails(site: Site) -> None:
    site.append(1)
    site.stream()
    with site.database.transaction() as connection:
        row = dict(connection.execute(select(tables.results).where(r.seq == 42)).mappings().one())
        connection.execute(tables.results.insert().values(row | {"seq": ALL + 1}))
    assert site.audit() == (1, {"made": ALL, "sent": ALL, "stored": ALL + 1, "doubled": 1})


def test_what_is_still_in_the_outbox_waits(site: Site) -> None:
    site.append(1)
    site.stream()
    site.append(ALL + 1)
    greet_only(site)
    assert site.audit() == (0, {"made": 2 * ALL, "waiting": ALL, "sent": ALL, "stored": ALL})


def greet_only(site: Site) -> None:
    """The device greets a cloud, and is cut off before a batch of it is stored."""

    async def main() -> None:
        async with running_cloud(site.url) as cloud:
            site.sql(tables.books.delete())
            uplink = Uplink(cloud.address, DEVICE, Greeting(site.outbox))  # type: ignore[arg-type]
            streaming = asyncio.create_task(uplink.run())
            await eventually(lambda: bool(said(site.database)))
            streaming.cancel()
            with suppress(asyncio.CancelledError):
                await streaming

    asyncio.run(main())


class Greeting:
    """An outbox that hands out no batch: its disk is slow."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def after(self, _seq: int, _limit: int) -> list[object]:
        return []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._outbox, name)


def said(database: Database) -> list[int]:
    with database.reading() as connection:
        return list(connection.execute(select(tables.books.c.last_seq)).scalars())


def test_what_the_outbox_dropped_by_its_policy_is_dropped_and_not_lost(site: Site) -> None:
    site.outbox.close()
    site.outbox = Outbox.open(site.folder / "small.db", 4 * len(batch(1, ROWS)))
    site.append(1)
    kept = site.outbox.depth().rows
    assert 0 < kept < ALL
    site.stream()
    assert site.audit() == (0, {"made": ALL, "dropped": ALL - kept, "sent": kept, "stored": kept})


def test_what_is_in_quarantine_is_not_lost(site: Site) -> None:
    site.append(1)
    site.append(ALL + 1, 2, poison=b"\xff\xff")
    site.stream()
    sent = ALL + 2 * ROWS
    assert site.audit() == (0, {"made": sent, "sent": sent, "stored": ALL, "quarantined": 2 * ROWS})


def test_what_is_stored_out_of_quarantine_is_stored_once_and_the_books_balance(site: Site) -> None:
    late = replace(decode(batch(ALL + 1, ROWS), ROWS), version=2, manifest=b"2" * 32)
    site.append(1)
    site.append(ALL + 1, 1, poison=encode(late))
    site.append(ALL + ROWS + 1, 1)
    site.stream()
    sent = ALL + 2 * ROWS
    assert site.audit() == (0, {"made": sent, "sent": sent, "stored": sent - ROWS, "quarantined": ROWS})
    code, tried = site.littoral("quarantine", "retry", "1", "--json")
    assert (code, json.loads(tried)[0]["stored"]) == (1, 0)
    code, tried = site.littoral("quarantine", "retry", "--all", "--json", versions=known_later)
    assert (code, json.loads(tried)) == (0, [{"id": 1, "stored": ROWS, "reason": None}])
    assert site.audit() == (0, {"made": sent, "sent": sent, "stored": sent})
    assert site.littoral("quarantine", "retry", "--all", "--json", versions=known_later) == (0, "[]\n")
    assert stored(site.database, DEVICE, site.outbox.epoch) == list(range(1, sent + 1))


def known_later(digest: bytes) -> KnownVersion | None:
    """What the registry knows once version 2 is registered."""
    return known(digest) or KnownVersion("digits", 2, classes=10)


def test_what_retention_dropped_is_not_lost_but_what_vanished_before_is(site: Site) -> None:
    site.append(1)
    site.stream()
    site.sql(tables.results.delete().where(r.seq == 42))
    with site.database.reading() as connection:
        received_ms = connection.execute(select(r.received_ms).limit(1)).scalar_one()
    Ingest(site.database, known).expire(received_ms + 3 * DAY_MS, days=1)
    site.append(ALL + 1)
    site.stream()
    account = {"made": 2 * ALL, "sent": 2 * ALL, "stored": ALL, "expired": ALL - 1, "lost": 1}
    assert site.audit() == (1, account)


def test_a_database_put_back_from_a_copy_has_lost_what_came_after_the_copy(site: Site) -> None:
    site.append(1)
    site.stream()
    site.append(ALL + 1)
    site.stream()
    # As it was after the first hundred: the device has deleted the second since.
    site.sql(tables.results.delete().where(r.seq > ALL))
    site.sql(tables.streams.update().values(watermark=ALL))
    site.append(2 * ALL + 1)
    site.stream()
    assert site.audit() == (1, {"made": 3 * ALL, "sent": 3 * ALL, "stored": 2 * ALL, "lost": ALL})


def test_a_damaged_outbox_begins_anew_and_what_it_held_is_lost(site: Site) -> None:
    site.append(1)
    site.stream()
    site.append(ALL + 1)
    greet_only(site)
    site.outbox.close()
    (site.folder / "outbox.db").write_bytes(b"no database" * 1000)
    site.outbox = Outbox.open(site.folder / "outbox.db", 1 << 30)
    site.append(2 * ALL + 1, 1)
    site.stream()
    made, kept = 2 * ALL + ROWS, ALL + ROWS
    assert stored(site.database, epoch=site.outbox.epoch) == list(range(1, ROWS + 1))
    assert site.audit() == (1, {"made": made, "sent": made, "stored": kept, "lost": ALL})
