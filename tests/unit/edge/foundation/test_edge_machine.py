from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge.foundation.machine import Machine, memory_bytes, ticks, warmest

STAT = "cpu  {busy} 0 0 {idle} 0 0 0 0 7 7\ncpu0 1 2 3 4\n"


def machine(folder: Path) -> Machine:
    (folder / "proc").mkdir()
    return Machine(folder, folder / "proc", folder / "thermal")


def test_the_processor_share_is_that_since_the_look_before(tmp_path: Path) -> None:
    looked = machine(tmp_path)
    shares = []
    for busy, idle in ((100, 900), (150, 950), (150, 1050), (350, 1050)):
        (tmp_path / "proc" / "stat").write_text(STAT.format(busy=busy, idle=idle))
        shares.append(looked.look().processor)
    assert shares == [0.1, 0.5, 0.0, 1.0]


def test_what_virtual_machines_used_is_not_counted_twice_and_waiting_for_the_disk_is_no_work() -> None:
    assert ticks("cpu  10 20 30 40 50 60 70 80 90 100\n") == (10 + 20 + 30 + 60 + 70 + 80, 360)


def test_memory_is_read_in_bytes() -> None:
    found = memory_bytes("MemTotal:  2048 kB\nMemAvailable:  1024 kB\nHugePages_Total:  0\n")
    assert found == {"MemTotal": 2048 * 1024, "MemAvailable": 1024 * 1024}


@pytest.mark.parametrize(
    ("readings", "warmest_c"),
    [
        (["45000", "61500"], 61.5),
        ([], None),
        (["0"], None),
        (["garbage", "48000"], 48.0),
        (["900000", "-20000"], -20.0),
    ],
)
def test_the_warmest_sound_sensor_counts(readings: list[str], warmest_c: float | None) -> None:
    assert warmest(readings) == warmest_c


def test_where_nothing_can_be_read_nothing_is_known(tmp_path: Path) -> None:
    found = machine(tmp_path).look()
    assert (found.processor, found.memory, found.temperature_c) == (0.0, 0, None)
    disk = shutil.disk_usage(tmp_path)
    assert (found.disk, found.disk_free > 0) == (disk.total, True)


def test_this_machine_tells_its_memory() -> None:
    found = Machine(Path("/")).look()
    assert 0 < found.memory_available <= found.memory
