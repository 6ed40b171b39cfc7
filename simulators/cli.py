"""`littoral-sim`: simulated parts of the world around Littoral."""

from __future__ import annotations

import click

from protos.kit import logs
from simulators.commands import bad_model, sensors


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--log-level", type=click.Choice(logs.LEVELS), default="info", show_default=True)
def main(log_level: str) -> None:
    """Simulate sensors and faults, to try Littoral out without hardware.

    \b
    Example:
      littoral-sim sensors --agent edge-1=edge-1/frames.sock --count 1000
    """
    logs.configure(log_level)


main.add_command(sensors)
main.add_command(bad_model)

if __name__ == "__main__":
    main()
