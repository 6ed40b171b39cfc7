"""How busy, full and warm this machine is, from Linux's own files: /proc and /sys."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
THERMAL = Path("/sys/class/thermal")
HOTTEST_C = 200.0
"""A sensor that says more, or less than COLDEST_C, is broken, and so is one that stands at exactly 0."""

COLDEST_C = -60.0
IDLE, IOWAIT, GUEST = 3, 4, 8
"""Places in the first line of /proc/stat; what comes from GUEST on is counted in user and nice already."""


@dataclass(frozen=True, slots=True)
class Measured:
    """processor: share of all cores that was busy since the look before, 0 to 1. Sizes in bytes, of memory and disk.

    temperature_c: of the warmest sensor; None where there is none.
    """

    processor: float
    memory: int
    memory_available: int
    disk: int
    disk_free: int
    temperature_c: float | None


class Machine:
    """Looks at the machine; disk: that of `folder`. What cannot be read is 0."""

    def __init__(self, folder: Path, proc: Path = PROC, thermal: Path = THERMAL) -> None:
        self._folder = folder
        self._proc = proc
        self._thermal = thermal
        self._before = (0, 0)

    def look(self) -> Measured:
        """The state of this moment."""
        memory = memory_bytes(_text(self._proc / "meminfo"))
        disk, free = self._disk()
        return Measured(
            processor=self._processor(),
            memory=memory.get("MemTotal", 0),
            memory_available=memory.get("MemAvailable", 0),
            disk=disk,
            disk_free=free,
            temperature_c=warmest(_text(path) for path in self._thermal.glob("thermal_zone*/temp")),
        )

    def _processor(self) -> float:
        before, self._before = self._before, ticks(_text(self._proc / "stat"))
        busy, all_ = (now - then for now, then in zip(self._before, before, strict=True))
        return min(1.0, max(0.0, busy / all_)) if all_ > 0 else 0.0

    def _disk(self) -> tuple[int, int]:
        try:
            found = os.statvfs(self._folder)
        except OSError:
            return 0, 0
        return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


def ticks(stat: str) -> tuple[int, int]:
    """Busy ticks and all, of all cores, from the text of /proc/stat; zeros if it is not that."""
    fields = stat.partition("\n")[0].split()[1 : GUEST + 1]
    if len(fields) <= IOWAIT or not all(field.isdecimal() for field in fields):
        return 0, 0
    counts = [int(field) for field in fields]
    return sum(counts) - counts[IDLE] - counts[IOWAIT], sum(counts)


def memory_bytes(meminfo: str) -> dict[str, int]:
    """The values of /proc/meminfo that are given in kB, in bytes."""
    rows = (line.split() for line in meminfo.splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3 and row[1].isdecimal()}  # noqa: PLR2004


def warmest(readings: Iterable[str]) -> float | None:
    """The highest sound reading of those in thousandths of a degree Celsius."""
    found = []
    for text in readings:
        try:
            found.append(int(text) / 1000)
        except ValueError:
            continue
    return max((value for value in found if value and COLDEST_C <= value <= HOTTEST_C), default=None)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
