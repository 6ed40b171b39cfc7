"""The benchmark runner: names, listing, table and file."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from benchmarks.kit import runner
from benchmarks.kit.measures import Measure, as_json

MEASURES = {"rate": Measure(120.0, "images/s", 100.0, ">= 1.0"), "start": Measure(2.0, "s", 0.0)}


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["kit"], ["__main__"]])
def test_without_a_known_name_the_names_are_listed_and_the_exit_code_is_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(runner.main, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert re.search(r"  training +Our training loop against plain Keras `fit`", result.stderr)


def test_a_benchmark_prints_its_table_and_writes_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.importlib, "import_module", lambda _: SimpleNamespace(run=lambda: MEASURES))
    file = tmp_path / "result.json"
    result = CliRunner().invoke(runner.main, ["training", "--json", str(file)])
    assert result.exit_code == 0
    assert "met" in result.stdout
    assert json.loads(file.read_text()) == {
        "name": "training",
        "measures": {
            "rate": {"value": 120.0, "unit": "images/s", "baseline": 100.0, "ratio": 1.2, "goal": ">= 1.0"},
            "start": {"value": 2.0, "unit": "s", "baseline": 0.0, "ratio": None, "goal": None},
        },
    }


def test_the_length_of_a_load_is_chosen_where_the_benchmark_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[float] = []

    def loaded(minutes: float = 2.0) -> dict[str, Measure]:
        lengths.append(minutes)
        return MEASURES

    monkeypatch.setattr(runner.importlib, "import_module", lambda _: SimpleNamespace(run=loaded))
    assert CliRunner().invoke(runner.main, ["footprint", "--minutes", "60"]).exit_code == 0
    assert lengths == [60.0]
    monkeypatch.setattr(runner.importlib, "import_module", lambda _: SimpleNamespace(run=lambda: MEASURES))
    refused = CliRunner().invoke(runner.main, ["training", "--minutes", "60"])
    assert (refused.exit_code, "has a length of its own" in refused.stderr) == (2, True)


def test_a_file_that_cannot_be_written_is_refused_before_the_benchmark_runs(tmp_path: Path) -> None:
    result = CliRunner().invoke(runner.main, ["training", "--json", str(tmp_path / "nowhere" / "result.json")])
    assert result.exit_code == 2
    assert "there is no folder" in result.stderr


@pytest.mark.parametrize(
    ("value", "goal", "met"),
    [(1.0, ">= 1.0", True), (0.9, ">= 1.0", False), (2.0, "<= 2.0", True), (2.1, "<= 2.0", False), (1.0, "", None)],
)
def test_a_goal_is_a_bound_on_the_ratio(value: float, goal: str, *, met: bool | None) -> None:
    assert Measure(value, "s", 1.0, goal).met is met


@pytest.mark.parametrize(("value", "met"), [(20.0, True), (21.0, False)])
def test_a_goal_may_bound_the_value_itself(value: float, *, met: bool) -> None:
    assert Measure(value, "ms", 5.0, "value <= 20").met is met


def test_the_file_form_holds_every_measure() -> None:
    assert set(as_json("training", MEASURES)["measures"]) == set(MEASURES)  # type: ignore[call-overload]
