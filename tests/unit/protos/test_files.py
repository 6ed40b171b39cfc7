import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from protos.kit.files import create_durably, remove_leftovers, write_durably


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_with_the_mode_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_durably(path, b"old")
    write_durably(path, b"new", 0o600)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("act", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no space")

    path = tmp_path / "file"
    write_durably(path, b"old")
    monkeypatch.setattr(os, act, fail)
    with pytest.raises(OSError, match="no space"):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_file_is_created_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert create_durably(path, b"first", 0o600)
    assert not create_durably(path, b"second")
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["file"]


def test_of_many_that_create_a_file_at_once_one_does(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: create_durably(path, b"%d" % number), range(32)))
    assert sum(made) == 1
    assert path.read_bytes() == b"%d" % made.index(True)


def test_what_a_crash_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".hidden").touch()
    (tmp_path / "file").touch()
    (tmp_path / ".file.abc.unfinished").touch()
    remove_leftovers(tmp_path, "other")
    assert names(tmp_path) == [".file.abc.unfinished", ".hidden", "file"]
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [".hidden", "file"]
