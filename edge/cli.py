"""`littoral-edge`: run this device's agent, and see what it does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.foundation import memory
from edge.foundation.settings import EdgeSettings
from edge.operating import commands
from protos.kit import logs, settings

if TYPE_CHECKING:
    from edge.agent import Agent

STOP_S = 5.0
"""From the signal to the end of the process. A hard end loses nothing: it is survived at every instruction."""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: littoral-edge run --id edge-1 --broker mqtt://cloud:1883 --uplink cloud:8081 --trust trust.json",
)
@click.version_option(package_name="littoral", message="%(package)s %(version)s")
def main() -> None:
    """The agent on a device: runs the models that the cloud deploys, and sends every result once."""


for _command in (commands.models, commands.infer, commands.rollback, commands.doctor, commands.unit):
    main.add_command(_command)


@main.command(
    epilog="Example: littoral-edge run --id edge-1 --dir /var/lib/littoral --broker mqtt://cloud:1883 "
    "--uplink cloud:8081 --trust trust.json --labels site=harbour,line=2"
)
@settings.options(EdgeSettings)
def run(config: Path | None, **flags: object) -> None:
    """Run the agent until SIGTERM or SIGINT. One agent a data folder."""
    chosen = settings.load(EdgeSettings, config, flags)
    logs.configure(chosen.log_level)
    memory.give_back()
    # Libraries' temporary files lie there, too: a device's /tmp may be read-only, or small.
    tempfile.tempdir = str(chosen.dir.absolute())
    # Imported here: grpc and numpy take half a second, for which --help need not wait.
    from edge.agent import Agent, AgentFailed  # noqa: PLC0415

    try:
        asyncio.run(_until_signalled(Agent(chosen)))
    except AgentFailed as error:
        raise click.ClickException(str(error)) from error


@main.command(epilog="Example: littoral-edge status --dir /var/lib/littoral --json")
@settings.options(EdgeSettings, only=["dir"])
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def status(config: Path | None, *, as_json: bool, **flags: object) -> None:
    """Show what this device runs, how its update stands and what waits in its outbox, whether its agent runs or not."""
    chosen = settings.load(EdgeSettings, config, flags)
    logs.configure("warning")
    from edge import agent  # noqa: PLC0415 - as above

    try:
        found = agent.status(chosen.dir)
    except agent.AgentFailed as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps(found) if as_json else "\n".join(f"{name:<9} {text}" for name, text in _lines(found)))


async def _until_signalled(agent: Agent) -> None:
    stop = asyncio.Event()

    def end() -> None:
        stop.set()
        deadline = threading.Timer(STOP_S, os._exit, [0])
        deadline.daemon = True
        deadline.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)
    await agent.run(stop)


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    """The status as names and texts."""
    lines = [
        ("device", found["device"]),
        ("agent", f"running, process {found['pid']}" if found["agent_running"] else "not running"),
        *_slot_lines(found),
        *(line for other in found["others"] for line in [("slot", other["slot"]), *_slot_lines(other)]),
        *(("alarm", alarm) for alarm in found["alarms"]),
        ("uplink", found["uplink"]),
        ("outbox", _depth(found["outbox"], "results")),
        ("events", _depth(found["events"], "events")),
        ("telemetry", _depth(found["telemetry"], "intervals")),
    ]
    return [(name, text) for name, text in lines if text]


def _depth(depth: dict[str, int] | None, of: str) -> str:
    """What waits of a kind; None: it cannot be told, since somebody has the file."""
    return f"{depth['rows']} {of}, {depth['bytes']} bytes, {depth['dropped']} dropped" if depth else "in use"


def _slot_lines(slot: dict[str, Any]) -> list[tuple[str, str]]:
    """What a slot runs, and how its update stands."""
    desired = slot["desired"]
    return [
        ("model", _model(slot["running"])),
        ("desired", f"{_model(desired)}, generation {slot['generation']}" if desired else "nothing yet"),
        ("update", slot["state"]),
        ("reason", slot["reason"]),
        *(("variant", _variant(row, slot["variant"])) for row in slot["variants"]),
    ]


def _variant(row: dict[str, Any], chosen: str) -> str:
    name = f"{row['variant']} (in use)" if row["variant"] == chosen else row["variant"]
    if row["problem"]:
        return f"{name}: {row['problem']}"
    if not row["measured_in"]:
        return f"{name}: not measured"
    accuracy = f", accuracy {row['accuracy']:.2%}" if row["accuracy"] else ""
    measured = f"measured in version {row['measured_in']}"
    return f"{name}: {row['frame_us']:.1f} µs a frame, {row['single_us']:.1f} µs alone, {measured}{accuracy}"


def _model(named: dict[str, Any] | None) -> str:
    if not named or not named["manifest"]:
        return "none"
    return f"{named['model']} version {named['version']} ({named['manifest'][:12]})"


if __name__ == "__main__":
    main()
