"""`littoral train-worker`: what a pod of a TrainingRun runs."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from cloud.foundation.settings import CloudSettings
from cloud.registry.receiving import NAME
from cloud.training.entities import LARGEST_SEED, Order
from cloud.training.overseer import TERMINATION_LOG, Patience, oversee
from cloud.training.team import MOST_WORKERS, BadTeam, team_of
from protos import topics
from protos.kit import settings


def model_name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """A name that can stand in a topic. Raises BadParameter."""
    try:
        return topics.checked_name(value, "model")
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _run(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not re.fullmatch(NAME, value):
        raise click.BadParameter("use 1 to 128 letters, digits, '.', '_' and '-', a letter or digit first")
    return value


@click.command(
    "train-worker",
    epilog="Example: littoral train-worker --run digits-1 --workers 2 --peers 'digits-1-{index}.digits-1:2222' "
    "--checkpoints /checkpoints --api http://littoral-api:8080",
)
@click.option(
    "--run", required=True, callback=_run, help="Names the training: it registers once, however often repeated."
)
@click.option("--model", default="digits", show_default=True, callback=model_name, help="Name to register it under.")
@click.option("--data", default="digits", show_default=True, metavar="digits|DIR", help="As for littoral train.")
@click.option("--epochs", type=click.IntRange(1, 10_000), help="As for littoral train.")
@click.option(
    "--seed", type=click.IntRange(0, LARGEST_SEED), default=1, show_default=True, help="As for littoral train."
)
@click.option(
    "--workers", type=click.IntRange(1, MOST_WORKERS), help="How many train together; TF_CONFIG says it, too."
)
@click.option("--peers", default="", metavar="HOST-{index}:PORT", help="Their addresses, where TF_CONFIG is not given.")
@click.option("--checkpoints", default="", metavar="DIR", help="Where worker 0 keeps its checkpoint, after each epoch.")
@click.option(
    "--together-s", type=click.FloatRange(1), default=Patience.together, show_default=True, help="Until all are there."
)
@click.option(
    "--silence-s",
    type=click.FloatRange(1),
    default=Patience.training,
    show_default=True,
    help="Without a step, after which another worker counts as lost.",
)
@click.option(
    "--termination-log",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"File for how it ended.  [default: {TERMINATION_LOG}, where there is one]",
)
@settings.options(CloudSettings, only=("api",))
def train_worker(
    *,
    run: str,
    model: str,
    data: str,
    epochs: int | None,
    seed: int,
    workers: int | None,
    peers: str,
    checkpoints: str,
    together_s: float,
    silence_s: float,
    termination_log: Path | None,
    config: Path | None,
    **flags: object,
) -> None:
    """One of the workers that train a model together, as a Job of Kubernetes starts them.

    \b
    Who they are is read from TF_CONFIG, or made of --workers, --peers and the environment's JOB_COMPLETION_INDEX.
    Worker 0 keeps the checkpoints, quantises, judges, and registers the model over the cloud's API.
    A line of JSON for each epoch goes to standard output; the last one says how it ended.
    \b
    Exit codes: 0 registered, 2 wrong usage, 65 refused for good, 69 others or the API were not there in time,
    70 unforeseen, 75 another worker was lost, 137 killed, 143 asked to end.
    """
    chosen = settings.load(CloudSettings, config, flags)
    try:
        team = team_of(os.environ, peers, workers)
    except BadTeam as error:
        raise click.UsageError(str(error)) from error
    order = Order(run, model, data, chosen.api, team, epochs or 0, seed, checkpoints)
    end = oversee(order, Patience(together_s, silence_s), _tell)
    _leave_word(termination_log, {"worker": team.index, **end.told})
    sys.exit(int(end.code))


def _tell(told: Mapping[str, Any]) -> None:
    click.echo(json.dumps(told))


def _leave_word(path: Path | None, told: Mapping[str, Any]) -> None:
    """Write it where the kubelet looks; outside a pod nobody does."""
    if path is None and not TERMINATION_LOG.exists():
        return
    try:
        (path or TERMINATION_LOG).write_text(json.dumps(told) + "\n")
    except OSError as error:
        click.echo(f"how it ended could not be written to {path or TERMINATION_LOG}: {error.strerror}", err=True)
