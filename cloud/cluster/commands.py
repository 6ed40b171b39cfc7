"""`littoral train`, here or on a cluster."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cloud.foundation.show import emit, table
from cloud.training import commands as here
from cloud.training.team import MOST_WORKERS

if TYPE_CHECKING:
    from cloud.cluster.runs import Course, Runs

HERE, KUBERNETES = "here", "kubernetes"
ON_BOTH = {"data", "model", "epochs", "seed", "as_json", "on"}
"""What means the same in both places; the rest belongs to one."""


def _volume(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Mapping[str, str] | None:
    if value is None:
        return None
    if value.startswith("/"):
        return {"hostPath": value}
    if not re.fullmatch("[a-z0-9]([a-z0-9.-]*[a-z0-9])?", value):
        raise click.BadParameter(
            f"{value!r} is neither the name of a PersistentVolumeClaim nor a folder of the nodes, which begins with /"
        )
    return {"persistentVolumeClaim": value}


ELSEWHERE = (
    click.Option(
        ["--workers"],
        type=click.IntRange(1, MOST_WORKERS),
        default=1,
        show_default=True,
        help="On kubernetes: pods that train together.",
    ),
    click.Option(["--namespace"], help="On kubernetes: where; by default the kubeconfig's."),
    click.Option(["--context"], help="On kubernetes: which cluster of the kubeconfig; by default its current one."),
    click.Option(["--image"], help="On kubernetes: the training image; by default the installation's."),
    click.Option(
        ["--checkpoints"],
        callback=_volume,
        metavar="CLAIM|/DIR",
        help="On kubernetes: a PersistentVolumeClaim, or a folder of the nodes; several workers need one.",
    ),
    click.Option(
        ["--data-volume"],
        callback=_volume,
        metavar="CLAIM|/DIR",
        help="On kubernetes: what the workers see as /data, for --data /data/….",
    ),
    click.Option(["--backoff-limit"], type=click.IntRange(0, 100), help="On kubernetes: workers that may be lost."),
)
WHERE = click.Option(
    ["--on"],
    type=click.Choice([HERE, KUBERNETES]),
    default=HERE,
    show_default=True,
    help="Train in this process, or by a TrainingRun in the cluster that kubectl uses, and follow it.",
)


def _train(on: str, **given: Any) -> None:  # noqa: ANN401 - as click hands them over
    context = click.get_current_context()
    elsewhere = {str(option.name) for option in ELSEWHERE}
    _check(context, given.keys() - ON_BOTH - elsewhere if on == KUBERNETES else elsewhere, on)
    if on == KUBERNETES:
        _on_kubernetes(**{name: value for name, value in given.items() if name in ON_BOTH | elsewhere})
    else:
        assert here.train.callback is not None
        here.train.callback(**{name: value for name, value in given.items() if name not in elsewhere})


def _check(context: click.Context, foreign: set[str], on: str) -> None:
    """Raise UsageError for a flag that means nothing where the training is to be."""
    for parameter in context.command.params:
        if parameter.name in foreign and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{parameter.opts[0]} does not go with --on {on}")


train = click.Command(
    "train",
    callback=_train,
    params=[*here.train.params[:4], WHERE, *ELSEWHERE, *here.train.params[4:]],
    help=f"{here.train.help}\n\n"
    "With --on kubernetes a Job of the cluster trains, by one or several workers, and registers the model there.",
    epilog="Examples: littoral train --data digits --epochs 12; "
    "littoral train --on kubernetes --workers 2 --checkpoints my-claim",
)


def _on_kubernetes(
    *,
    data: str,
    model: str,
    epochs: int | None,
    seed: int,
    namespace: str | None,
    context: str | None,
    as_json: bool,
    **more: Any,  # noqa: ANN401 - as click hands them over
) -> None:
    from cloud.cluster.runs import NoCluster, RunRefused, Runs, new_name  # noqa: PLC0415 - slow to import

    started = time.monotonic()
    spec = {"model": model, "data": data, "epochs": epochs, "seed": seed, **_of_spec(more)}
    name = new_name(model)
    try:
        runs = Runs(namespace, context)
        runs.create(name, {field: value for field, value in spec.items() if value is not None})
        last = _follow(runs, name)
    except (NoCluster, RunRefused) as error:
        raise click.ClickException(str(error)) from error
    if last.version is None:
        raise click.ClickException(f"the training {name} failed: {last.message}")
    told = {"model": model, "version": last.version, "run": name, "namespace": runs.namespace}
    emit(
        told | {"restarts": last.restarts, "seconds": round(time.monotonic() - started, 1)},
        as_json,
        lambda done: table(f"{model} version {last.version}", ("fact", "value"), list(done.items())[2:]),
    )


def _of_spec(given: Mapping[str, Any]) -> dict[str, Any]:
    """Flags by the names that the fields of a TrainingRun have."""
    names = {"data_volume": "dataVolume", "backoff_limit": "backoffLimit"}
    return {names.get(name, name): value for name, value in given.items()}


def _follow(runs: Runs, name: str) -> Course:
    """Show how it goes, to its end. Ctrl-C ends the showing alone."""
    console = Console(stderr=True)
    console.print(f"TrainingRun {name} in namespace {runs.namespace}")
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[result]}"), TimeElapsedColumn()
    try:
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("starting", total=None, result="")
            for seen in runs.follow(name):
                epoch = f"epoch {seen.epoch}/{seen.epochs}" if seen.epochs else seen.phase.lower()
                again = f" (restarts: {seen.restarts})" if seen.restarts else ""
                total = seen.epochs or None
                bar.update(task, description=epoch, total=total, completed=seen.epoch, result=f"{seen.message}{again}")
            return seen
    except KeyboardInterrupt:
        place = f"{name} -n {runs.namespace}"
        console.print(
            f"The training goes on in the cluster. Look: kubectl get trainingrun {place} -w. "
            f"End it: kubectl delete trainingrun {place}"
        )
        raise click.Abort from None
