"""The commands for people on the device: `littoral-edge models | infer | rollback | doctor | unit`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import click

from edge.foundation.settings import EdgeSettings
from edge.operating.entities import Finding
from protos.kit import logs, settings
from protos.topics import DEFAULT_SLOT

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
slot_option = click.option("--slot", default=DEFAULT_SLOT, show_default=True, help="Which of the device's models.")
MODELS_FOLDER = "models"


@click.command(epilog="Example: littoral-edge models --dir /var/lib/littoral --json")
@settings.options(EdgeSettings, only=["dir"])
@json_option
def models(config: Path | None, *, as_json: bool, **flags: object) -> None:
    """Show which models lie on this device, in use, on trial and in reserve, and whether they are whole."""
    chosen = _loaded(config, flags)
    from edge.operating import inventory  # noqa: PLC0415 - half a second, for which --help need not wait

    found = inventory.inventory(chosen.dir / MODELS_FOLDER)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif found:
        click.echo(table(inventory.COLUMNS, map(inventory.row, found)))
    else:
        click.echo(
            f"no model has come to {chosen.dir} yet; `littoral-edge doctor` says what may be in the way", err=True
        )


@click.command(epilog="Example: littoral-edge infer --dir /var/lib/littoral digit.pgm frames.npy")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@settings.options(EdgeSettings, only=["dir", "threads"])
@slot_option
@json_option
def infer(files: tuple[Path, ...], config: Path | None, slot: str, *, as_json: bool, **flags: object) -> None:
    """Ask the committed model about FILES: pictures, .npy arrays or raw pixels.

    The agent may run or not; the answers are printed only, neither stored nor sent.
    """
    chosen = _loaded(config, flags)
    from edge.operating import trying  # noqa: PLC0415 - as above

    try:
        found = trying.answers(chosen.dir / MODELS_FOLDER / slot, list(files), chosen.threads)
    except trying.NotTried as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(f"{found['model']} version {found['version']}, {found['variant']}")
    click.echo(table(trying.COLUMNS, map(trying.row, found["answers"])))


@click.command(epilog="Example: littoral-edge rollback --dir /var/lib/littoral")
@settings.options(EdgeSettings, only=["dir", "id"])
@slot_option
@json_option
def rollback(config: Path | None, slot: str, *, as_json: bool, **flags: object) -> None:
    """Go back to the model that was committed before, at once, with or without a running agent.

    The cloud is told that this device rolled back. What it deploys next takes over again.
    """
    chosen = _loaded(config, flags)
    from edge.agent import AgentFailed  # noqa: PLC0415 - as above
    from edge.operating import recall  # noqa: PLC0415 - as above

    try:
        found = recall.roll_back(chosen.dir, chosen.id, slot)
    except (recall.NotDone, AgentFailed) as error:
        raise click.ClickException(f"nothing has changed: {error}") from error
    running = found["running"]
    click.echo(json.dumps(found) if as_json else f"back to {running['model']} version {running['version']}")


@click.command(epilog="Example: littoral-edge doctor --config /etc/littoral/edge.toml")
@settings.options(EdgeSettings)
@json_option
def doctor(config: Path | None, *, as_json: bool, **flags: object) -> None:
    """Examine this device with the settings of its agent, which may run meanwhile, and say what to mend.

    Ends with 0 if all is well, 1 after a warning, 2 after a failure.
    """
    chosen = _loaded(config, flags)
    from edge.operating import doctor, entities  # noqa: PLC0415 - as above

    found = asyncio.run(doctor.examine(chosen))
    level = entities.worst(found)
    if as_json:
        click.echo(json.dumps({"worst": level, "findings": [asdict(finding) for finding in found]}, indent=2))
    else:
        click.echo("\n".join(line for finding in found for line in _told(finding)))
    click.get_current_context().exit(entities.EXIT_CODES[level])


@click.command(
    epilog="Example: littoral-edge unit --config /etc/littoral/edge.toml > /etc/systemd/system/littoral-edge.service"
)
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("/etc/littoral/edge.toml"),
    show_default=True,
    help="The settings file that the service's agent reads.",
)
def unit(config: Path) -> None:
    """Print a systemd unit for this installation: sandboxed, watched, with a user and a data folder of its own."""
    from edge.operating import unit  # noqa: PLC0415 - as above

    click.echo(unit.unit(config), nl=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows below their columns' names, each column as wide as its longest text."""
    lines = [list(columns), *(list(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _told(finding: Finding) -> list[str]:
    line = f"{finding.level.upper():<7}  {finding.name:<13} {finding.found}"
    return [line, *([f"{'':<9}{'':<13} to mend: {finding.mend}"] if finding.mend else [])]


def _loaded(config: Path | None, flags: dict[str, object]) -> EdgeSettings:
    chosen = settings.load(EdgeSettings, config, flags)
    logs.configure("warning")
    return chosen
