"""Several processes change the fleet's metadata on PostgreSQL at once: everything is listed, and nothing forks."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest
from sqlalchemy import Connection

from cloud.foundation.database import Database
from cloud.identity.entities import Lifetimes
from cloud.identity.service import Identity
from cloud.identity.trust import FleetTrust
from simulators.postgresql import Cluster
from tests.forkserver import starting

PROCESSES = 3
EACH = 4
MODEL = "digits"
NOW_MS = 1_790_000_000_000

_context = starting(__name__)

Transactions = Callable[[Database], AbstractContextManager[Connection]]

TRANSACTIONS: dict[str, Transactions] = {
    "that write alone": Database.transaction,
    "that write beside others": Database.beside,  # only the metadata's own lock keeps two of them apart
}


def trust(database: Database, folder: Path) -> FleetTrust:
    return FleetTrust(database, Identity(folder / "cloud"), folder / "offline", Lifetimes())


def register(url: str, folder: Path, kind: str, first: int) -> None:
    """One process: lists versions, each in a transaction."""
    with closing(Database(url)) as database:
        changed = trust(database, folder)
        for version in range(first, first + EACH):
            with TRANSACTIONS[kind](database) as transaction:
                changed.list_version(transaction, MODEL, version, b"manifest", NOW_MS)


@pytest.mark.parametrize("kind", TRANSACTIONS)
def test_all_versions_are_listed_and_every_file_names_the_newest_below_it(
    postgresql: Cluster, tmp_path: Path, kind: str
) -> None:
    url = postgresql.new_database()
    with closing(Database(url)) as database:
        database.create()
        made = trust(database, tmp_path)
        made.prepare(lambda _: [], NOW_MS)
        before = made.timestamp_version()
        firsts = range(1, 1 + PROCESSES * EACH, EACH)
        running = [_context.Process(target=register, args=(url, tmp_path, kind, first)) for first in firsts]
        for process in running:
            process.start()
        for process in running:
            process.join()
        assert [process.exitcode for process in running] == [0] * PROCESSES
        assert made.timestamp_version() == before + PROCESSES * EACH
        newest = {file.role: json.loads(file.data)["signed"] for file in made.files()}
    assert set(newest[MODEL]["targets"]) == {f"{MODEL}/{number}" for number in range(1, 1 + PROCESSES * EACH)}
    assert newest["timestamp"]["meta"]["snapshot.json"]["version"] == newest["snapshot"]["version"]
    named = {name.removesuffix(".json"): meta["version"] for name, meta in newest["snapshot"]["meta"].items()}
    assert named == {role: newest[role]["version"] for role in named}
    assert MODEL in named
