"""`littoral train --on`: which flags go where, and what a run's status means for who follows it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from cloud.cluster.commands import train
from cloud.cluster.runs import Course, course, new_name


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--workers", "2"], "--workers does not go with --on here"),
        (["--checkpoints", "/c"], "--checkpoints does not go with --on here"),
        (["--on", "kubernetes", "--dir", "d"], "--dir does not go with --on kubernetes"),
        (["--on", "kubernetes", "--plain"], "--plain does not go with --on kubernetes"),
        (["--on", "kubernetes", "--checkpoints", "No Claim"], "neither the name of a PersistentVolumeClaim"),
    ],
)
def test_a_flag_that_means_nothing_there_is_refused(flags: list[str], named: str) -> None:
    result = CliRunner().invoke(train, flags)
    assert result.exit_code == 2
    assert named in result.output


def test_where_no_cluster_is_known_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    result = CliRunner().invoke(train, ["--on", "kubernetes"])
    assert result.exit_code == 1
    assert "no cluster is known here" in result.output
    assert "Traceback" not in result.output


def test_a_status_says_where_a_run_stands() -> None:
    status = {"phase": "Running", "progress": "3/12", "restarts": 1, "message": "2 workers train"}
    assert course({"status": status}) == Course("Running", 3, 12, 1, "2 workers train")
    assert course({}) == Course(message="waiting for the controller")
    assert [course({"status": {"phase": phase}}).has_ended for phase in ("Pending", "Succeeded", "Failed")] == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("model", ["digits", "9-lives", "a.b.c", "x" * 63, "-", "m" * 40 + "-" * 20])
def test_a_runs_name_can_be_part_of_host_names_and_is_new(model: str) -> None:
    first, second = new_name(model), new_name(model)
    assert first != second
    assert len(first) <= 57
    assert first.replace("-", "").isalnum()
    assert first[0].isalpha()
    assert first[-1].isalnum()
