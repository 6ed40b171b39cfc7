"""The committed model asked about a file, beside the agent: nothing is stored, nothing is sent, no frame is slowed."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from edge.inference import pictures
from edge.inference.engine import BadModel, Engine
from edge.models import places
from edge.models.entities import Installed

COLUMNS = ("file", "frame", "label", "confidence", "class")


class NotTried(Exception):
    """There is no answer. The message says why and what to do."""


def answers(slot: Path, files: list[Path], threads: int) -> dict[str, Any]:
    """What the committed model in the folder `slot` says of each frame in `files`. Raises NotTried."""
    installed = places.committed(slot)
    if installed is None:
        raise NotTried(
            f"no committed model lies whole in {slot}: see `littoral-edge models` and `littoral-edge status`"
        )
    try:
        engine = Engine(installed.path, installed.variant, installed.manifest.preprocessing, threads)
        rows = [row for file in files for row in _of_file(engine, installed, file)]
    except BadModel as error:
        raise NotTried(str(error)) from error
    manifest = installed.manifest
    return {
        "model": manifest.model,
        "version": manifest.version,
        "variant": installed.variant.name,
        "manifest": installed.digest.hex(),
        "answers": rows,
    }


def row(answer: dict[str, object]) -> list[str]:
    """One answer in a table with COLUMNS."""
    return [f"{answer[name]:.4f}" if name == "confidence" else str(answer[name]) for name in COLUMNS]


def _of_file(engine: Engine, installed: Installed, file: Path) -> list[dict[str, object]]:
    labels, shape = installed.manifest.labels, engine.frame_shape
    dtype = engine.frame_dtype
    try:
        raw = pictures.frames(file.read_bytes(), math.prod(shape) * dtype.itemsize, dtype)
        frames = raw.view(dtype).reshape(-1, *shape)
    except OSError as error:
        raise NotTried(f"{file} cannot be read: {error.strerror}") from error
    except pictures.Unreadable as error:
        raise NotTried(
            f"{file}: {error}; the model takes {' x '.join(map(str, shape))} values of {dtype.name}"
        ) from error
    began = time.perf_counter()
    found = engine.classify(frames)
    frame_us = round((time.perf_counter() - began) * 1e6 / len(frames), 1)
    return [
        {
            "file": str(file),
            "frame": number,
            "label": labels[index] if index < len(labels) else str(index),
            "class": index,
            "confidence": confidence,
            "frame_us": frame_us,
        }
        for number, (index, confidence) in enumerate(zip(found.label.tolist(), found.confidence.tolist(), strict=True))
    ]
