"""Which version of this agent runs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def agent_version() -> str:
    """The version of the installed package."""
    try:
        return version("littoral")
    except PackageNotFoundError:
        return "not installed"
