"""What processes and packages take: read from the kernel and from what is installed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a process and all that it started. pss: pages shared with others by share. rss: counted whole."""

    pss: int
    rss: int


def memory(pid: int) -> Memory:
    """What they take now."""
    found = [_memory(each) for each in family(pid)]
    return Memory(sum(each.pss for each in found), sum(each.rss for each in found))


def family(pid: int) -> Iterator[int]:
    """A process and its descendants."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from family(int(child))


def _memory(pid: int) -> Memory:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name.rstrip(":"): int(size) * 1024 for name, size, *_ in map(str.split, lines)}
    return Memory(sizes["Pss"], sizes["Rss"])


def installed_bytes(extra: str) -> int:
    """Size of the files that `pip install '.[EXTRA]'` has put here: what Littoral needs, and what that needs."""
    return sum(_bytes(metadata.distribution(name)) for name in _needed("littoral", frozenset({extra}), set()))


def _needed(name: str, extras: frozenset[str], found: set[str]) -> set[str]:
    found.add(name)
    for text in metadata.requires(name) or []:
        requirement = Requirement(text)
        wanted = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in (extras or {""})
        )
        if wanted and requirement.name not in found:
            _needed(requirement.name, frozenset(requirement.extras), found)
    return found


def _bytes(distribution: metadata.Distribution) -> int:
    # What the compiler makes of the sources comes later, and not with each installer.
    files = [Path(str(file.locate())) for file in distribution.files or () if file.suffix != ".pyc"]
    return sum(file.stat().st_size for file in files if file.is_file())
