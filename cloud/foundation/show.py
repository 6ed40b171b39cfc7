"""How commands print: a table for people, or with --json exactly one JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import click
from rich.console import Console, RenderableType
from rich.table import Table

T = TypeVar("T")

PIPE_WIDTH = 200
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table of rows; numbers are set right, None is empty."""
    made = Table(title=title, title_justify="left")
    content = [list(row) for row in rows]
    for place, column in enumerate(columns):
        numeric = any(isinstance(row[place], int | float) for row in content)
        made.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in content:
        made.add_row(*("" if cell is None else str(cell) for cell in row))
    return made


def emit(data: T, as_json: bool, render: Callable[[T], RenderableType]) -> None:  # noqa: FBT001 - the flag itself
    """Print `data` as the only thing on standard output, as JSON or as `render` draws it."""
    if as_json:
        click.echo(json.dumps(data, indent=2))
        return
    # Without a terminal there is no width to fit: lines stay whole for grep.
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(render(data))
