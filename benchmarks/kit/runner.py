"""Finds benchmarks by name, runs one, prints its table, writes its JSON file."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

import benchmarks
from benchmarks.kit.measures import Measures, as_json

MET = {True: "met", False: "missed", None: ""}


@click.command(epilog="Example: python -m benchmarks training --json training.json")
@click.argument("name", required=False)
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the measures to FILE.")
@click.option("--minutes", type=click.FloatRange(min=0.1), help="How long to put under load, where that can be chosen.")
def main(name: str | None, file: Path | None, minutes: float | None) -> None:
    """Run the benchmark NAME and print its measures, each with its baseline from the same run."""
    known = names()
    if name not in known:
        click.echo(listing(f"there is no benchmark {name!r}" if name else "give the name of a benchmark"), err=True)
        raise SystemExit(2)
    if file and not file.absolute().parent.is_dir():
        raise click.UsageError(f"--json {file}: there is no folder {file.absolute().parent}")
    run = importlib.import_module(f"{benchmarks.__name__}.{name}").run
    chosen = {} if minutes is None else {"minutes": minutes}
    if chosen.keys() - inspect.signature(run).parameters.keys():
        raise click.UsageError(f"--minutes: the benchmark {name} has a length of its own")
    measures: Measures = run(**chosen)
    Console().print(table(name, measures))
    if file:
        file.write_text(json.dumps(as_json(name, measures), indent=2) + "\n")


def names() -> list[str]:
    """All benchmarks: the plain modules of this package."""
    modules = pkgutil.iter_modules(benchmarks.__path__)
    return sorted(module.name for module in modules if not module.ispkg and not module.name.startswith("_"))


def listing(problem: str) -> str:
    """`problem`, then each benchmark with the first line of what it says of itself."""
    width = max(map(len, names()))
    return "\n".join([f"{problem}; there are:", *(f"  {name:{width}}  {_summary(name)}" for name in names())])


def table(name: str, measures: Measures) -> Table:
    """The measures for people."""
    made = Table(title=f"Benchmark {name}", title_justify="left")
    for column in ("measure", "value", "baseline", "unit", "ratio", "goal", ""):
        made.add_column(column, justify="right" if column in ("value", "baseline", "ratio") else "left")
    for key, measure in measures.items():
        figures = (f"{measure.value:,.4g}", f"{measure.baseline:,.4g}", measure.unit, f"{measure.ratio:.3f}")
        made.add_row(key, *figures, measure.goal, MET[measure.met])
    return made


def _summary(name: str) -> str:
    """First line of the docstring, without the imports that running it needs."""
    source = Path(next(iter(benchmarks.__path__)), f"{name}.py").read_text()
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
