"""Frames on which champion and challenger disagree, kept on the device within a bound: the ones worth a label.

Each file is a `.npz` with columns of `n` frames: pixels uint8 (n, bytes of a frame), source, frame, captured_us, and
label and confidence of the champion and of the challenger.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from edge.foundation.disk import told
from edge.foundation.threads import finished
from protos.kit.columns import Results
from protos.kit.files import remove_leftovers, write_durably

Frames = NDArray[np.uint8]
Keep = Callable[[Frames, Results, Results], None]
"""Takes frames (n, bytes of a frame) with what the champion and the challenger said of them. It must not wait."""

AT_ONCE = 64
"""Frames that are kept of those between two writes: a challenger that is always wrong must not wear the disk out."""

log = structlog.get_logger()


class Folder:
    """It is a `Keep`. The oldest files go when there would be more than `max_bytes`."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._waiting: list[tuple[Frames, Results, Results]] = []
        self._room = AT_ONCE

    def __call__(self, frames: Frames, champion: Results, challenger: Results) -> None:
        """Keep these, as far as there is room before the next `write`."""
        count = min(len(frames), self._room) if self._max_bytes else 0
        if count:
            self._room -= count
            first = slice(count)
            self._waiting.append((frames[first].copy(), selected(champion, first), selected(challenger, first)))

    async def write(self) -> None:
        """Put what was kept onto the disk. One that takes no more costs these frames, nothing else."""
        waiting, self._waiting, self._room = self._waiting, [], AT_ONCE
        if not waiting:
            return
        try:
            await finished(self._write, [_file(*one) for one in waiting])
        except OSError as error:
            log.warning("disagreements not kept", error=told(error))

    def _write(self, contents: Iterable[bytes]) -> None:
        self._path.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self._path)
        files = sorted(self._path.glob("*.npz"))
        number = int(files[-1].stem) + 1 if files else 1
        for number, content in enumerate(contents, number):  # noqa: B020 - it goes on from there
            if len(content) > self._max_bytes:
                continue
            self._make_room(len(content))
            write_durably(self._path / f"{number:012d}.npz", content)

    def _make_room(self, needed: int) -> None:
        sizes = {path: path.stat().st_size for path in sorted(self._path.glob("*.npz"))}
        total = sum(sizes.values())
        for path, size in sizes.items():
            if total + needed <= self._max_bytes:
                return
            path.unlink()
            total -= size


def selected(results: Results, rows: slice | NDArray[np.bool_]) -> Results:
    """The results in these rows."""
    columns = [f.name for f in fields(results) if isinstance(getattr(results, f.name), np.ndarray)]
    return replace(results, **{name: getattr(results, name)[rows] for name in columns})


def _file(frames: Frames, champion: Results, challenger: Results) -> bytes:
    columns: dict[str, Any] = {
        "pixels": frames,
        "source": champion.source,
        "frame": champion.frame,
        "captured_us": champion.captured_us,
        "champion": f"{champion.model} {champion.version}",
        "challenger": f"{challenger.model} {challenger.version}",
    }
    for name, results in (("champion", champion), ("challenger", challenger)):
        columns |= {f"{name}_label": results.label, f"{name}_confidence": results.confidence}
    made = io.BytesIO()
    np.savez(made, **columns)
    return made.getvalue()
