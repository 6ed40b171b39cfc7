"""`littoral serve`: run the cloud, all of it or some roles."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import click

from cloud.app import ROLES, StartFailed, serve
from cloud.foundation.settings import CloudSettings
from protos.kit import logs
from protos.kit.settings import load, options

THREADS_S = 5.0
"""A database that hangs holds up the threads that ask it. Everything that was to be said has been said by then."""


@click.command("serve")
@click.option(
    "--role",
    "roles",
    type=click.Choice(sorted(ROLES)),
    multiple=True,
    help="Run only this part; may be given several times. Without it: all of them, and the embedded broker.",
)
@options(CloudSettings)
def serve_command(roles: tuple[str, ...], config: Path | None, **flags: object) -> None:
    """Run the cloud until SIGTERM or Ctrl-C: HTTP API, gRPC ingest, MQTT publisher, rollout controller.

    \b
    Examples:
      littoral serve
      littoral serve --role api --role controller --broker mqtt://broker.local:1883
    """
    settings = load(CloudSettings, config, flags)
    logs.configure(settings.log_level)
    try:
        asyncio.run(_serve(settings, frozenset(roles) or ROLES))
    except StartFailed as error:
        raise click.ClickException(str(error)) from error


async def _serve(settings: CloudSettings, roles: frozenset[str]) -> None:
    await serve(settings, roles)
    deadline = threading.Timer(THREADS_S, os._exit, [1])
    deadline.daemon = True
    deadline.start()
