"""A sample as files that other programs read: the frame as a picture, what is known of it as a line of JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from protos.kit.files import write_durably

INDEX = "samples.jsonl"


def picture(pixels: bytes, shape: Sequence[int]) -> tuple[str, bytes]:
    """Suffix and bytes of the file: PGM for grey, PPM for colour, else NumPy's format (flat, if the shape is lost)."""
    match list(shape):
        case [height, width] | [height, width, 1]:
            return ".pgm", b"P5 %d %d 255\n" % (width, height) + pixels
        case [height, width, 3]:
            return ".ppm", b"P6 %d %d 255\n" % (width, height) + pixels
    array = np.frombuffer(pixels, np.uint8)
    file = io.BytesIO()
    np.save(file, array.reshape(shape) if shape else array)
    return ".npy", file.getvalue()


def save(folder: Path, sample: Mapping[str, Any], pixels: bytes) -> Path:
    """Write the frame's picture into `folder`; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    suffix, data = picture(pixels, sample["shape"])
    path = folder / f"{sample['device']}-{sample['source']}-{sample['frame']}-v{sample['version']}{suffix}"
    write_durably(path, data)
    return path


def save_index(folder: Path, saved: Sequence[tuple[Mapping[str, Any], Path]]) -> None:
    """Write what is known of the samples, a line for each, beside their pictures."""
    lines = [json.dumps({"file": path.name, **sample}) for sample, path in saved]
    write_durably(folder / INDEX, ("\n".join(lines) + "\n").encode())
