"""`littoral`: the cloud's commands, each imported only when it is used.

So that `littoral --help` answers at once, and only `littoral train` waits for TensorFlow.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, NoReturn

import click

OUR_PACKAGES = ("cloud", "edge", "protos", "simulators")
PLUGINS = "littoral.commands"
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Lazy:
    """Where a command is, and what the list of commands says of it without importing it."""

    module: str
    attribute: str
    summary: str

    def load(self) -> click.Command:
        """The command itself. Raises ModuleNotFoundError if an extra is not installed."""
        command: click.Command = getattr(import_module(self.module), self.attribute)
        return command


COMMANDS = {
    "train": Lazy("cloud.cluster.commands", "train", "Train a model, quantise, judge, sign and register it."),
    "train-worker": Lazy(
        "cloud.training.worker_commands", "train_worker", "One of several workers, as Jobs start them."
    ),
    "register": Lazy("cloud.training.commands", "register", "Judge, sign and register a model trained elsewhere."),
    "models": Lazy("cloud.registry.commands", "models", "List and show registered model versions."),
    "keys": Lazy("cloud.identity.commands", "keys", "The keys that devices trust: make, list, replace, sign offline."),
    "serve": Lazy("cloud.commands", "serve_command", "Run the cloud: API, ingest, publisher, controller."),
    "migrate": Lazy("cloud.foundation.commands", "migrate", "Take the database of an older Littoral to this version."),
    "devices": Lazy("cloud.fleet.commands", "devices", "Devices: what they run and what they proved."),
    "rollout": Lazy("cloud.rollouts.commands", "rollout", "Roll a model version out, watch it, stop it."),
    "drift": Lazy("cloud.drift.commands", "drift", "Whether models still see and say what they were made for."),
    "shadow": Lazy("cloud.shadow.commands", "shadow", "A challenger beside the champion, on the same frames."),
    "watch-mqtt": Lazy("cloud.delivery.commands", "watch_mqtt", "Show what crosses the broker, decoded."),
    "results": Lazy("cloud.results_commands", "results", "Results that the devices sent."),
    "quarantine": Lazy("cloud.uplink.quarantine_commands", "quarantine", "What could not be stored, why, and retry."),
    "events": Lazy("cloud.events.commands", "events", "What happened on the devices."),
    "samples": Lazy("cloud.samples.commands", "samples", "Frames that devices send in: which ones, and get them."),
    "audit": Lazy("cloud.uplink.commands", "audit", "Whether what was sent is stored, once."),
}


class LazyGroup(click.Group):
    """Commands from the table `lazy`, then those that installed packages offer."""

    def __init__(self, *arguments: Any, lazy: Mapping[str, Lazy], **more: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*arguments, **more)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        """All names, ours first."""
        return [*self._lazy, *sorted(entry_points(group=PLUGINS).names - self._lazy.keys())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's interface
        """Import the command. Raises click.ClickException that names the extra to install."""
        try:
            if cmd_name in self._lazy:
                return self._lazy[cmd_name].load()
            for plugin in entry_points(group=PLUGINS, name=cmd_name):
                command: click.Command = plugin.load()
                return command
        except ModuleNotFoundError as error:
            raise _missing(error) from error
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list for --help, from the table; only other packages' commands are imported for it."""
        names = self.list_commands(ctx)
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._summary(ctx, name)) for name in names])

    def _summary(self, ctx: click.Context, name: str) -> str:
        if name in self._lazy:
            return self._lazy[name].summary
        try:
            command = self.get_command(ctx, name)
        except click.ClickException as error:
            return f"(not usable: {error.message})"
        return command.get_short_help_str(limit=100) if command else ""


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: littoral train --data digits && littoral serve",
)
@click.version_option(package_name="littoral", message="%(package)s %(version)s")
def littoral() -> None:
    """Train CNNs, roll them out to edge devices, and bring every result back once."""
    # Standard output is for results: what a command logs before it has read its settings goes to standard error too.
    from protos.kit import logs  # noqa: PLC0415 - half of the time that --help would take

    logs.configure("warning")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run `littoral` and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted. Expected errors are one sentence."""
    try:
        code = littoral.main(arguments, prog_name="littoral", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        missing = _missing(error)
        missing.show()
        sys.exit(missing.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def _missing(error: ModuleNotFoundError) -> click.ClickException:
    """What to install for a module that is not there; the error itself if the module is our own."""
    package = (error.name or "").partition(".")[0]
    if package in OUR_PACKAGES or not package:
        raise error
    return click.ClickException(
        f"this command needs the package {package!r}, which is not installed: pip install 'littoral[cloud]'"
    )


if __name__ == "__main__":
    main()
