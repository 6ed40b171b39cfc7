"""The README of a chart: what is written by hand in ABOUT.md, and its values with the comments that explain them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent.parent / "helm"
CHARTS = ("littoral", "littoral-edge")
_KEY = re.compile(r"( *)([\w-]+):")
_MEANING = re.compile(r" *# -- (.*)")


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a chart that its users may set. path: `api.replicas`. meaning: its comment, empty if it has none."""

    path: str
    default: Any
    meaning: str


def readme(chart: str) -> str:
    """The page."""
    rows = [f"| `{value.path}` | `{_shown(value.default)}` | {_cell(value.meaning)} |" for value in values(chart)]
    head = (FOLDER / chart / "ABOUT.md").read_text().rstrip()
    table = "\n".join(["| value | default | meaning |", "| --- | --- | --- |", *rows])
    return f"{head}\n\n## Values\n\nWritten by `make docs` from the comments in values.yaml.\n\n{table}\n"


def values(chart: str) -> list[Value]:
    """Everything in the chart's values.yaml that is no group of other values, in its order."""
    text = (FOLDER / chart / "values.yaml").read_text()
    meanings = _meanings(text)
    return [Value(path, default, meanings.get(path, "")) for path, default in _leaves(yaml.safe_load(text), meanings)]


def _leaves(tree: dict[str, Any], explained: dict[str, str], above: str = "") -> Iterator[tuple[str, Any]]:
    """A mapping with a comment of its own is one value; without one it is a group."""
    for key, value in tree.items():
        path = f"{above}{key}"
        if isinstance(value, dict) and value and path not in explained:
            yield from _leaves(value, explained, f"{path}.")
        else:
            yield path, value


def _meanings(text: str) -> dict[str, str]:
    """The comment above each key, by the key's path."""
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    meaning = ""
    for line in text.splitlines():
        if said := _MEANING.fullmatch(line):
            meaning = said[1]
        elif key := _KEY.match(line):
            indent = len(key[1])
            above = [*(item for item in above if item[0] < indent), (indent, key[2])]
            if meaning:
                found[".".join(name for _, name in above)] = meaning
            meaning = ""
    return found


def _shown(default: object) -> str:
    return json.dumps(default)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
