"""The documentation names files that exist and settings that are current."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMED_FILE = re.compile(r"`((?:cloud|edge|protos|simulators|benchmarks|scripts|tests|docs|helm)/[\w./-]+\.\w+)`")
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    missing = [name for name in NAMED_FILE.findall(page.read_text()) if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    missing = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("walk", ["One frame", "One event", "One model"])
def test_a_walk_goes_through_the_rooms_in_order_and_never_back(walk: str) -> None:
    section = (ROOT / "docs" / "architecture.md").read_text().split(f"## {walk},")[1].split("\n## ")[0]
    steps = re.findall(r"^\| .* \| `((?:cloud|edge|simulators)/\w+)", section, re.MULTILINE)
    visits = [room for before, room in zip(["", *steps], steps, strict=False) if room != before]
    assert len(visits) > 3, visits
    assert len(visits) == len(set(visits)), f"a room is entered twice: {visits}"
