"""`littoral train` and `littoral register`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TextIO

import click
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cloud.foundation.database import Database, DatabaseFailed
from cloud.foundation.settings import CloudSettings
from cloud.foundation.show import emit, json_option, table
from cloud.identity.service import Identity
from cloud.identity.trust import FleetTrust
from cloud.registry.entities import Unpublishable, described
from cloud.registry.kept import kept
from cloud.registry.service import Registry
from cloud.training.entities import (
    FLOAT,
    INT8,
    LARGEST_SEED,
    Options,
    QuantisationLoss,
    Step,
    TrainedModel,
    UnreadableDataset,
)
from cloud.training.worker_commands import model_name
from protos.kit import logs, settings
from protos.kit.keys import KeysFailed
from protos.v1.manifest_pb2 import Lineage, Requirements


@click.command(epilog="Example: littoral train --data digits --model digits --epochs 12")
@click.option(
    "--data",
    default="digits",
    show_default=True,
    metavar="digits|DIR",
    help="The embedded digits, or a folder with MNIST in IDX files.",
)
@click.option("--model", default="digits", show_default=True, callback=model_name, help="Name to register it under.")
@click.option(
    "--epochs", type=click.IntRange(1, 10_000), help="How often every image is seen; by default what the data needs."
)
@click.option(
    "--seed",
    type=click.IntRange(0, LARGEST_SEED),
    default=1,
    show_default=True,
    help="The same seed gives the same model.",
)
@click.option(
    "--architecture", "architectures", multiple=True, metavar="NAME", help="Only for such devices, as uname -m says."
)
@click.option(
    "--plain",
    is_flag=True,
    help="Publish each variant also without XNNPACK, from the same file, for devices on which that is faster.",
)
@click.option("--agent-version", default="", metavar="X.Y", help="Only for agents from this version on.")
@settings.options(
    CloudSettings, only=("dir", "database", "artifacts", "signing_keys", "offline_keys", "patched_versions")
)
@json_option
def train(
    *,
    data: str,
    model: str,
    epochs: int | None,
    seed: int,
    architectures: tuple[str, ...],
    plain: bool,
    agent_version: str,
    config: Path | None,
    as_json: bool,
    **flags: object,
) -> None:
    """Train a CNN, quantise it to int8, judge both on held-out images, sign and register it as the next version.

    Nothing is registered if int8 is right on over one point fewer of the images than float.
    """
    chosen = settings.load(CloudSettings, config, flags)
    logs.configure(chosen.log_level)
    started = time.monotonic()
    try:
        registry = _registry(
            chosen, model
        )  # before the long work, so that a folder that cannot be written costs no minutes
        trained = _train(data, Options(epochs=epochs or 0, seed=seed, plain=plain))
        published = _publish(
            trained, registry, model, Requirements(architectures=architectures, agent_version=agent_version)
        )
    except (UnreadableDataset, QuantisationLoss, Unpublishable, DatabaseFailed, KeysFailed, OSError) as error:
        raise click.ClickException(str(error)) from error
    emit(published | {"seconds": round(time.monotonic() - started, 1)}, as_json, _drawn)


def _variant(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, Path]:
    files = {name: Path(path) for name, _, path in (text.partition("=") for text in given)}
    for name, path in files.items():
        if name not in (INT8, FLOAT) or not path.is_file():
            raise click.BadParameter(f"give {INT8}=FILE, {FLOAT}=FILE or both, of files that exist")
    return files


@click.command(
    epilog="Example: littoral register --model waves --variant int8=waves.tflite --data held-out.npz --steps steps.json"
)
@click.option("--model", required=True, callback=model_name, help="Name to register it under.")
@click.option(
    "--variant",
    "variants",
    multiple=True,
    required=True,
    callback=_variant,
    metavar="int8|float32=FILE",
    help="A TFLite file; once for each variant.",
)
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="NumPy .npz with held-out frames, as devices get them, and labels.",
)
@click.option(
    "--steps",
    type=click.File(),
    help="JSON: what becomes of a frame (Preprocessing in protos/v1/manifest.proto); by default pixels to 0..1.",
)
@click.option("--labels", default="", metavar="A,B,...", help="Names of the classes; by default their numbers.")
@settings.options(
    CloudSettings, only=("dir", "database", "artifacts", "signing_keys", "offline_keys", "patched_versions")
)
@json_option
def register(
    *,
    model: str,
    variants: dict[str, Path],
    data: Path,
    steps: TextIO | None,
    labels: str,
    config: Path | None,
    as_json: bool,
    **flags: object,
) -> None:
    """Judge TFLite files that were trained elsewhere, sign them and register them as the next version.

    Their frames may be pictures, or windows of sensor values; the steps that prepare them are signed with them.
    """
    chosen = settings.load(CloudSettings, config, flags)
    logs.configure(chosen.log_level)
    started = time.monotonic()
    try:
        registry = _registry(chosen, model)
        published = _publish(_brought(variants, data, steps, labels), registry, model, Requirements())
    except (UnreadableDataset, QuantisationLoss, Unpublishable, DatabaseFailed, KeysFailed, OSError) as error:
        raise click.ClickException(str(error)) from error
    emit(published | {"seconds": round(time.monotonic() - started, 1)}, as_json, _drawn)


def _brought(variants: dict[str, Path], data: Path, steps: TextIO | None, labels: str) -> TrainedModel:
    from cloud.training.quiet import native_logs_hidden  # noqa: PLC0415 - --help must not wait for these imports

    with native_logs_hidden(UnreadableDataset, QuantisationLoss, Unpublishable):
        from cloud.training import bringing, service  # noqa: PLC0415

        held_out = bringing.held_out(data)
        origin = Lineage(dataset=held_out.name, dataset_digest=held_out.digest, code_version=service.code_version())
        return bringing.brought(
            {name: path.read_bytes() for name, path in variants.items()},
            held_out,
            bringing.steps_from(steps.read(), held_out.frames) if steps else None,
            [name.strip() for name in labels.split(",") if name.strip()],
            origin,
        )


def _registry(chosen: CloudSettings, model: str) -> Registry:
    """The registry, ready to take a version of `model`."""
    database, identity = Database(chosen.database_url), Identity(chosen.dir, chosen.signing_keys)
    database.create()
    trust = FleetTrust.of(chosen, database, identity)
    blobs, patched = kept(chosen, database), chosen.patched_versions
    registry = Registry(database, blobs, identity.sign, trust.list_version, patched_versions=patched)
    trust.prepare(registry.registered, _now_ms())
    trust.check_delegated(model, _now_ms())
    return registry


def _train(data: str, options: Options) -> TrainedModel:
    from cloud.training.quiet import native_logs_hidden  # noqa: PLC0415 - --help must not wait for these imports

    with native_logs_hidden(UnreadableDataset, QuantisationLoss) as stderr:
        from cloud.training import datasets, service  # noqa: PLC0415

        dataset = datasets.load(data)
        console = Console(file=stderr)
        console.print(
            f"{dataset.name}: {len(dataset.train_labels)} images to train, {len(dataset.test_labels)} held out"
        )
        with _bar(console) as bar:
            task = bar.add_task("starting", total=1.0, result="")

            def told(step: Step) -> None:
                name = f"epoch {step.epoch}/{step.epochs}" if step.done < 1 else "quantising and judging"
                result = f"loss {step.loss:.4f}  accuracy {step.accuracy:.2%}"
                bar.update(task, description=name, completed=step.done, result=result)

            return service.train(dataset, options, service.code_version(), told)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[result]}"),
        TimeElapsedColumn(),
        console=console,
    )


def _publish(trained: TrainedModel, registry: Registry, model: str, requires: Requirements) -> dict[str, object]:
    from cloud.training import service  # noqa: PLC0415 - as above

    return described(service.publish(trained, registry, model, _now_ms(), requires))


def _now_ms() -> int:
    return int(time.time() * 1000)


def _drawn(published: dict[str, object]) -> RenderableType:
    title = f"{published['model']} version {published['version']}, in {published['seconds']} s"
    rows = [
        (variant["name"], f"{variant['accuracy']:.2%}", variant["bytes"], variant["digest"][:12])
        for variant in published["variants"]  # type: ignore[attr-defined]
    ]
    return table(title, ("variant", "accuracy", "bytes", "digest"), rows)
