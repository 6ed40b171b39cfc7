"""A changed byte, anywhere in the metadata that the broker carries, gets nothing onto a device."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadError, RepositoryError

from edge.delivery.trust_client import Bridge, refresh
from tests.trust_kit import Fleet, Shelf, digest


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    made = Fleet(tmp_path_factory.mktemp("fleet"))
    made.register("digits", 1)
    made.changes.renew(["root"], made.now_ms)
    return made


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "digits"])
def test_no_changed_byte_of_the_metadata_changes_what_is_believed(tmp_path: Path, fleet: Fleet, role: str) -> None:
    name, good = fleet.newest(role), fleet.files()
    shelf, folder = Shelf(good), tmp_path / "metadata"
    cached = folder / ("root_history/2.root.json" if role == "root" else f"{role}.json")

    async def believed() -> bytes | None:
        return (await asyncio.to_thread(refresh, folder, fleet.root, Bridge(shelf), "digits/1")).target

    async def sweep() -> None:
        assert await believed() == digest("digits/1")
        for place in range(len(good[name])):
            changed = bytearray(good[name])
            changed[place] ^= 1 << place % 8
            shelf.files[name] = bytes(changed)
            cached.unlink(missing_ok=True)
            try:
                assert await believed() == digest("digits/1")  # a spare signature, the spelling of a number
            except (RepositoryError, DownloadError):
                continue

    asyncio.run(sweep())
