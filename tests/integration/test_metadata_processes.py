"""Several processes change the fleet's metadata at once, on either database: everything is listed, nothing forks."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from cloud.app import Rooms, compose
from cloud.foundation.settings import CloudSettings

PROCESSES = 4
EACH = 5
MODEL = "digits"
NOW_MS = 1_790_000_000_000

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])

Transactions = Callable[[Rooms], AbstractContextManager[Connection]]

TRANSACTIONS: dict[str, Transactions] = {
    "that write alone": lambda rooms: rooms.database.transaction(),
    # On PostgreSQL only the metadata's own lock then keeps two of them apart.
    "that write beside others": lambda rooms: rooms.database.beside(),
}


def register(settings: dict[str, Any], kind: str, first: int) -> None:
    """One process: lists versions, each in a transaction."""
    with compose(CloudSettings(**settings)) as rooms:
        for version in range(first, first + EACH):
            with TRANSACTIONS[kind](rooms) as transaction:
                rooms.trust.list_version(transaction, MODEL, version, b"manifest", NOW_MS)


@pytest.mark.parametrize("kind", TRANSACTIONS)
def test_all_versions_are_listed_and_every_file_names_the_newest_below_it(
    database_url: str, tmp_path: Path, kind: str
) -> None:
    settings = {"dir": tmp_path / "cloud", "database": database_url}
    with compose(CloudSettings(**settings)) as rooms:
        before = rooms.trust.timestamp_version()
        firsts = range(1, 1 + PROCESSES * EACH, EACH)
        running = [_context.Process(target=register, args=(settings, kind, first)) for first in firsts]
        for process in running:
            process.start()
        for process in running:
            process.join()
        assert [process.exitcode for process in running] == [0] * PROCESSES
        assert rooms.trust.timestamp_version() == before + PROCESSES * EACH
        newest = {file.role: json.loads(file.data)["signed"] for file in rooms.trust.files()}
    assert set(newest[MODEL]["targets"]) == {f"{MODEL}/{number}" for number in range(1, 1 + PROCESSES * EACH)}
    assert newest["timestamp"]["meta"]["snapshot.json"]["version"] == newest["snapshot"]["version"]
    named = {name.removesuffix(".json"): meta["version"] for name, meta in newest["snapshot"]["meta"].items()}
    assert named == {role: newest[role]["version"] for role in named}
    assert MODEL in named
