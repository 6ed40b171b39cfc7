from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.uplink import peek
from edge.uplink.entities import Depth, NewBatch
from edge.uplink.outbox import Outbox

pytestmark = pytest.mark.forks


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.sqlite"


def fill(path: Path) -> Outbox:
    outbox = Outbox.open(path, 2**20)
    outbox.append([NewBatch(3, b"payload", "camera", 3)])
    return outbox


def test_what_waits_is_told_and_no_byte_of_it_changed(path: Path) -> None:
    fill(path).close()
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert peek.depth(path) == Depth(3, 7, 0)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_results_that_a_killed_agent_left_in_the_log_count_and_stay_there(path: Path) -> None:
    if os.fork() == 0:
        fill(path)
        os._exit(0)
    os.wait()
    log = path.with_name(path.name + "-wal")
    before = log.read_bytes()
    assert peek.depth(path) == Depth(3, 7, 0)
    assert log.read_bytes() == before != b""
    assert Outbox.open(path, 2**20).depth() == Depth(3, 7, 0)


def test_the_outbox_of_a_running_agent_or_a_damaged_one_is_not_told_of(path: Path) -> None:
    outbox = fill(path)
    assert peek.depth(path) is None
    outbox.close()
    path.write_bytes(b"no database" * 1000)
    assert peek.depth(path) is None


def test_where_there_is_none_yet_none_is_made(path: Path) -> None:
    assert peek.depth(path) == Depth(0, 0, 0)
    assert not path.exists()
