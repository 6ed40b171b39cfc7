"""`littoral-sim sensors` and `littoral-sim bad-model`."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import click

from cloud.foundation.settings import CloudSettings
from cloud.foundation.show import json_option
from protos import topics
from protos.kit import logs, settings
from protos.kit.keys import KeysFailed
from simulators import sensors as feeding
from simulators.reel import HeldOut, Reel

data_option = click.option(
    "--data",
    default="digits",
    show_default=True,
    metavar="digits|DIR",
    help="The embedded digits, or a folder with MNIST in IDX files; the held-out part is taken.",
)


class AgentSocket(click.ParamType[tuple[str, Path]]):
    """`ID=SOCKET`: a device and the Unix socket on which its agent takes frames."""

    name = "ID=SOCKET"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Path]:
        """The id and the path in `value`."""
        device, _, socket = str(value).partition("=")
        if not socket:
            self.fail(
                f"{value!r} is not of the form ID=SOCKET, such as edge-1=littoral-edge-data/frames.sock", param, ctx
            )
        try:
            return topics.checked_name(device, "device id"), Path(socket)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.option(
    "--agent", "agents", type=AgentSocket(), multiple=True, required=True, help="An agent to feed; repeatable."
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=100.0,
    show_default=True,
    help="Frames a second, each agent.",
)
@click.option(
    "--batch", type=click.IntRange(1, 1024), default=20, show_default=True, help="Frames handed over at once."
)
@click.option(
    "--count",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Last frame number; 0: go on until SIGTERM or SIGINT.",
)
@click.option("--slot", default="", metavar="NAME", help="Slot whose model infers them; without it the main one.")
@data_option
@click.option(
    "--api", default="http://127.0.0.1:8080", show_default=True, metavar="URL", help="Where the true labels are posted."
)
@json_option
def sensors(  # noqa: PLR0917 - one for each flag
    agents: Sequence[tuple[str, Path]],
    rate: float,
    batch: int,
    count: int,
    slot: str,
    data: str,
    api: str,
    *,
    as_json: bool,
) -> None:
    """Feed held-out digits to agents, and post their true labels to the cloud.

    A restarted agent, cloud or sensor costs nothing: every frame is counted once. On SIGTERM or SIGINT what was handed
    over is settled first. Exit code 1 if that could not be done.

    \b
    Example:
      littoral-sim sensors --agent edge-1=littoral-edge-data/frames.sock --count 1000
    """
    tallies = asyncio.run(_feed(dict(agents), feeding.Pace(rate, batch, count, slot), data, api))
    if as_json:
        click.echo(json.dumps(feeding.tallies_as_json(tallies)))
    else:
        for tally in tallies:
            click.echo(f"{tally.device}: {tally.sent} frames sent, {tally.acknowledged} acknowledged")
    unsettled = [tally.device for tally in tallies if not tally.complete]
    if unsettled:
        raise click.ClickException(
            f"not all frames of {', '.join(unsettled)} are acknowledged and their truths posted: are the agents and "
            f"{api} running? Start the same command again to settle them"
        )


@click.command("bad-model")
@click.option(
    "--model", default="digits", show_default=True, metavar="NAME", help="The model whose newest version is damaged."
)
@data_option
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Which damage; the same seed, the same damage.",
)
@settings.options(CloudSettings, only=["dir", "database"])
@json_option
def bad_model(
    *,
    model: str,
    data: str,
    seed: int,
    config: Path | None,
    as_json: bool,
    **flags: object,
) -> None:
    """Register a damaged copy of a model's newest version, to see a fleet refuse it.

    Its files load and are rightly signed, but its golden vectors, recorded before the damage, fail.

    \b
    Example:
      littoral-sim bad-model --model digits
    """
    # Imported here: they are slow to import, and --help need not wait.
    from cloud.app import StartFailed, compose  # noqa: PLC0415
    from cloud.registry.entities import UnknownModel, described  # noqa: PLC0415
    from simulators.faults import NotDamaged, register_bad  # noqa: PLC0415

    chosen = settings.load(CloudSettings, config, flags)
    if not chosen.dir.is_dir():
        raise click.ClickException(f"there is no folder {chosen.dir}: name that of `littoral train` with --dir")
    logs.configure(chosen.log_level)
    try:
        with compose(chosen) as rooms:
            bad = register_bad(rooms.registry, model, _held_out(data), seed, int(time.time() * 1000))
    except (StartFailed, UnknownModel, NotDamaged, KeysFailed) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(described(bad)))
    else:
        click.echo(f"{bad.model} version {bad.version} is registered; its golden vectors will fail on every device")


async def _feed(sockets: dict[str, Path], pace: feeding.Pace, data: str, api: str) -> list[feeding.Tally]:
    digits = await asyncio.to_thread(_held_out, data)
    reels = {device: Reel.of(device, digits) for device in sockets}
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await feeding.run(sockets, reels, pace, api, stop)


def _held_out(data: str) -> HeldOut:
    from cloud.training.datasets import load  # noqa: PLC0415 - as above
    from cloud.training.entities import UnreadableDataset  # noqa: PLC0415

    try:
        dataset = load(data)
    except UnreadableDataset as error:
        raise click.ClickException(str(error)) from error
    return HeldOut(dataset.test_images, dataset.test_labels)
