"""Where a file is gone on with, and which file it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.inference.bookmark import HEAD_BYTES, Bookmark, Place

PLACE = Place(7, 5, 2, "some")


@contextmanager
def bookmark(folder: Path) -> Iterator[Bookmark]:
    descriptor = os.open(folder / "file", os.O_RDONLY)
    try:
        yield Bookmark(folder / "noted.json", descriptor)
    finally:
        os.close(descriptor)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a file whose place is noted."""
    (tmp_path / "file").write_bytes(b"0123456789")
    with bookmark(tmp_path) as made:
        assert made.read() is None
        made.write(PLACE)
    return tmp_path


def test_what_was_noted_is_read_again(folder: Path) -> None:
    with bookmark(folder) as again:
        assert again.read() == PLACE


def test_a_file_that_has_grown_is_the_same(folder: Path) -> None:
    with (folder / "file").open("ab") as more:
        more.write(b"x" * 2 * HEAD_BYTES)
    with bookmark(folder) as again:
        assert again.read() == PLACE


@pytest.mark.parametrize("change", [b"0023456789", b"0123", b""])
def test_a_file_of_the_same_inode_with_another_content_is_another(folder: Path, change: bytes) -> None:
    (folder / "file").write_bytes(change)
    with bookmark(folder) as again:
        assert again.read() is None


def test_a_file_with_the_same_content_and_another_inode_is_another(folder: Path) -> None:
    (folder / "next").write_bytes((folder / "file").read_bytes())
    (folder / "next").replace(folder / "file")
    with bookmark(folder) as again:
        assert again.read() is None


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b"\xff", b'{"place": {"frame": 1}}', b'{"place": 3}'])
def test_notes_that_are_damaged_say_nothing(folder: Path, damage: bytes) -> None:
    (folder / "noted.json").write_bytes(damage)
    with bookmark(folder) as again:
        assert again.read() is None
