"""What the agent takes of a device, as `python -m benchmarks footprint` measures it, with a small model and short."""

from __future__ import annotations

import asyncio
import statistics
from pathlib import Path

import pytest

from benchmarks import footprint
from benchmarks.on_device import running
from benchmarks.on_device.footprint import MEGABYTE, installed_bytes
from benchmarks.on_device.models import Subject
from tests import tiny_models

MINUTES = 0.15
SAMPLES = 30


@pytest.mark.timeout(300)
def test_agent_and_worker_stay_small_and_do_not_grow_under_load(tmp_path: Path) -> None:
    file = tmp_path / "model.tflite"
    file.write_bytes(model := tiny_models.int8(tiny_models.weights()))
    manifest = tiny_models.manifest({"int8": model})
    subject = Subject(file, manifest.variants[0], manifest.preprocessing)
    running.prepare(tmp_path / "edge", subject)
    taken, rate = asyncio.run(footprint.under_load(tmp_path / "edge", subject, MINUTES, SAMPLES))
    assert rate > 0
    before, end = (statistics.median(memory.pss for memory in part) for part in (taken[10:20], taken[20:]))
    assert end <= 120 * MEGABYTE
    assert end - before <= 4 * MEGABYTE


def test_the_packages_of_a_device_take_less_than_250_megabytes() -> None:
    assert 50 * MEGABYTE < installed_bytes("edge") < 250 * MEGABYTE
