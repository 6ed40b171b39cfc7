"""The summary of a run for people, on standard output."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from cloud.foundation.show import PIPE_WIDTH, table
from simulators.demo.findings import Entry, Findings


def show(findings: Findings) -> None:
    """Print models, rollouts, refusals and results."""
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    console.print(_models(findings), _rollouts(findings), sep="\n")
    for refusal in findings.refusals:
        told = f"{refusal['device']} refused version {refusal['version']}: {refusal['reason']}"
        console.print(told, markup=False, highlight=False)
    counts = ", ".join(f"{findings.summary[name]} {name}" for name in ("sent", "stored", "lost", "duplicated"))
    console.print(f"Results: {counts}", highlight=False)


def _models(findings: Findings) -> Table:
    columns = ("version", "digest", "bytes", "float", "int8", "results", "accuracy in the fleet")
    return table("Models", columns, [_model(findings, model) for model in findings.models])


def _model(findings: Findings, model: Entry) -> list[object]:
    version = str(model["version"])
    share = findings.summary["accuracy"].get(version)
    return [
        model["version"],
        model["digest"][:12],
        model["bytes"],
        f"{model['accuracy_float']:.2%}",
        f"{model['accuracy_int8']:.2%}",
        findings.summary["results_per_version"].get(version, 0),
        None if share is None else f"{share:.2%}",
    ]


def _rollouts(findings: Findings) -> Table:
    rows = [
        [
            rollout["version"],
            rollout["state"],
            ", ".join(f"{wave['succeeded']} of {wave['size']}" for wave in rollout["waves"]),
            rollout["reason"],
        ]
        for rollout in findings.rollouts
    ]
    return table("Rollouts", ("version", "state", "succeeded in each wave", "reason"), rows)
