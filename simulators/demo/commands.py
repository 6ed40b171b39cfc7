"""`littoral demo`: from pixels to a fleet in one command."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click


@click.command(epilog="Example: littoral demo --agents 3 --dir demo-data --keep")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Data folder, kept afterwards [default: a temporary one, removed at the end].",
)
@click.option(
    "--data",
    default="digits",
    show_default=True,
    metavar="digits|DIR",
    help="The embedded digits, or a folder with MNIST in IDX files.",
)
@click.option("--agents", type=click.IntRange(1, 50), default=5, show_default=True, help="How many edge agents.")
@click.option(
    "--broker",
    type=click.Choice(["auto", "mosquitto", "amqtt"]),
    default="auto",
    show_default=True,
    help="Embedded broker; auto: Mosquitto if it is installed.",
)
@click.option("--keep", is_flag=True, help="Go on after the summary until Ctrl-C, and print the addresses.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the summary as one JSON object, and nothing else on standard output."
)
def demo(folder: Path | None, data: str, agents: int, broker: str, *, keep: bool, as_json: bool) -> None:
    """Run the whole loop on this machine, from training to results.

    Trains, quantises, signs, rolls out to agents and brings every result back; then a version 2 the same way; then a
    damaged version 3 that the canary must refuse. Exit code 0 only if the fleet ended on version 2 with no result lost
    or doubled; 1 with the reasons otherwise; 130 after Ctrl-C.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        source = _checked_source(data)
        _check_broker(broker)
        with _data_folder(folder) as place:
            complaints = _run(place, source, agents, broker, keep=keep, as_json=as_json)
    except KeyboardInterrupt:
        click.echo("Stopped; every process of the demo has ended.", err=True)
        raise SystemExit(128 + signal.SIGINT) from None
    if complaints:
        raise click.ClickException("the run did not end as it must:\n" + "\n".join(f"- {line}" for line in complaints))


def _run(place: Path, data: str, agents: int, broker: str, *, keep: bool, as_json: bool) -> list[str]:
    # Imported here, where Ctrl-C is already ours: these bring gRPC, httpx and rich.
    from simulators.demo.processes import ProcessEnded, Processes  # noqa: PLC0415
    from simulators.demo.script import Unexpected, go_on, play  # noqa: PLC0415
    from simulators.demo.summary import show  # noqa: PLC0415
    from simulators.demo.view import open_view  # noqa: PLC0415
    from simulators.demo.world import ApiFailed, Plan, TimedOut, World  # noqa: PLC0415

    with Processes(place) as processes:
        world = World(place, Plan(agents, data, broker), processes)
        try:
            with open_view() as view:
                findings, complaints = play(world, view)
            if as_json:
                click.echo(json.dumps(findings.as_json(), indent=2))
            else:
                show(findings)
            if keep and not complaints:
                with open_view() as view, suppress(KeyboardInterrupt):
                    go_on(world, view)
        except ProcessEnded as error:
            raise click.ClickException(str(error)) from error
        except (ApiFailed, TimedOut, Unexpected) as error:
            raise click.ClickException(f"{error}\nThe end of the cloud's log:\n{processes.tail('cloud')}") from error
    return complaints


@contextmanager
def _data_folder(chosen: Path | None) -> Iterator[Path]:
    if chosen is None:
        with tempfile.TemporaryDirectory(prefix="littoral-demo-") as temporary:
            yield Path(temporary)
        return
    if chosen.exists() and any(chosen.iterdir()):
        raise click.UsageError(f"--dir {chosen} is not empty: the demo begins with a new folder; name another one")
    chosen.mkdir(parents=True, exist_ok=True)
    yield chosen.resolve()


def _checked_source(data: str) -> str:
    if data == "digits":
        return data
    if not Path(data).is_dir():
        raise click.UsageError(f"--data {data} is no folder: name one with MNIST in IDX files, or 'digits'")
    return str(Path(data).resolve())


def _check_broker(kind: str) -> None:
    if kind == "mosquitto" and shutil.which("mosquitto") is None:
        raise click.UsageError("--broker mosquitto: it is not on the PATH; install Mosquitto, or take --broker amqtt")
