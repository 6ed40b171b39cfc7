"""Artifacts' bytes, in a folder and in either database: what was put is read, whole and in part, whoever put it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import update

from cloud.foundation.database import Database
from cloud.registry import store_blobs
from cloud.registry.blobs import Blobs
from cloud.registry.entities import UnknownArtifact
from cloud.registry.kept import Kept
from cloud.registry.store_blobs import PIECE_BYTES, DatabaseBlobs

LARGE = bytes(range(256)) * (PIECE_BYTES // 256 * 2) + b"and a rest"


@pytest.fixture
def database(new_database: Callable[[], str]) -> Iterator[Database]:
    made = Database(new_database())
    made.create()
    yield made
    made.close()


@pytest.fixture(params=["folder", "database"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path, database: Database) -> Kept:
    return Blobs(tmp_path / "blobs") if request.param == "folder" else DatabaseBlobs(database)


@pytest.mark.parametrize("data", [b"", b"one", LARGE])
def test_what_was_put_is_read_by_its_digest(blobs: Kept, data: bytes) -> None:
    assert blobs.put(data) == hashlib.sha256(data).digest()
    assert blobs.read(hashlib.sha256(data).digest(), 0, -1) == data


@pytest.mark.parametrize("offset", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, 2 * PIECE_BYTES + 9])
@pytest.mark.parametrize("size", [-1, 0, 1, 65_536, PIECE_BYTES])
def test_any_part_is_read(blobs: Kept, offset: int, size: int) -> None:
    digest = blobs.put(LARGE)
    assert blobs.read(digest, offset, size) == LARGE[offset : None if size < 0 else offset + size]


def test_what_was_never_put_is_unknown(blobs: Kept) -> None:
    with pytest.raises(UnknownArtifact, match="00ff"):
        blobs.read(bytes.fromhex("00ff" * 16), 0, -1)


def test_many_may_put_the_same_at_once(blobs: Kept) -> None:
    with ThreadPoolExecutor(8) as pool:
        digests = list(pool.map(blobs.put, [LARGE] * 8))
    assert blobs.read(digests[0], 0, -1) == LARGE


def test_putting_it_again_mends_what_was_damaged_in_the_database(database: Database) -> None:
    blobs = DatabaseBlobs(database)
    digest = blobs.put(LARGE)
    with database.transaction() as connection:
        connection.execute(update(store_blobs.pieces).where(store_blobs.pieces.c.piece == 1).values(data=b"damage"))
    assert blobs.read(digest, 0, -1) != LARGE
    blobs.put(LARGE)
    assert blobs.read(digest, 0, -1) == LARGE
