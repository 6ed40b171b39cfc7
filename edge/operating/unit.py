"""The systemd unit that comes with the agent, filled in for this installation."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

UNIT_FILE = "littoral-edge.service"
PROGRAM = "littoral-edge"


def unit(config: Path) -> str:
    """The unit's text. config: the agent's settings file."""
    program = Path(sys.prefix, "bin", PROGRAM)
    text = files("edge.operating").joinpath(UNIT_FILE).read_text(encoding="utf-8")
    return text.replace("{program}", _quoted(program)).replace("{config}", _quoted(config.absolute()))


def _quoted(path: Path) -> str:
    """As systemd reads it: spaces and its own signs are kept."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"' if " " in text else text
