"""What the image leaves out of installed packages, the agent does not need: its rooms load without it."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
ROOMS = "edge.agent, edge.cli, edge.inference.worker, edge.update.trial, edge.reporting.monitor, edge.operating.doctor"
SHOWS = f"import {ROOMS}; from edge.inference import operators; assert len(operators.known() or ()) > 100"


def needed(name: str, extra: str, found: set[str]) -> set[str]:
    """Names of the packages that `name` needs, with those that they need."""
    for text in distribution(name).requires or []:
        wanted = Requirement(text)
        if (wanted.marker is None or wanted.marker.evaluate({"extra": extra})) and wanted.name not in found:
            found.add(wanted.name)
            needed(wanted.name, "", found)
    return found


def copy(name: str, target: Path) -> None:
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        return  # not for this Python
    for file in installed.files or []:
        if ".." not in file.parts:
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file.locate(), target / file)


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """The edge's packages as the image has them, before they are stripped."""
    for name in needed("littoral", "edge", set()):
        copy(name, tmp_path)
    for room in ("edge", "protos", "cloud", "simulators"):
        shutil.copytree(ROOT / room, tmp_path / room)
    return tmp_path


def test_the_agents_rooms_load_from_what_the_image_keeps(packages: Path) -> None:
    before = size(packages)
    runpy.run_path(str(ROOT / "images" / "strip.py"))["main"]("edge", packages)
    assert size(packages) < 0.8 * before
    assert not (packages / "cloud").exists()
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(packages)}
    command = [sys.executable, "-S", "-c", SHOWS]
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
