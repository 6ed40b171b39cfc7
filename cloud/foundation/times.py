"""Times as people type them: `2h` ago, or the time itself."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

_SPAN = re.compile(r"(\d{1,9})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Since(click.ParamType[str]):
    """An option's value: a span back from now, or a time in ISO 8601 (without a zone: UTC). ISO 8601 comes out."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The time that it names."""
        try:
            return since(value, datetime.now(UTC)).isoformat()
        except ValueError as error:
            self.fail(str(error), param, ctx)


def since(said: str, now: datetime) -> datetime:
    """The time that is meant. Raises ValueError that says how to write one."""
    try:
        if found := _SPAN.fullmatch(said):
            return now - timedelta(**{_UNITS[found[2]]: int(found[1])})
        known = datetime.fromisoformat(said)
    except (ValueError, OverflowError):
        raise ValueError(f"{said!r} is no time: write 30m, 2h, 7d, or 2026-11-25T14:00") from None
    return known if known.tzinfo else known.replace(tzinfo=UTC)


def unix_ms(time: datetime | None) -> int | None:
    """The time in milliseconds since 1970; without a zone it is in UTC. None stays None."""
    if time is None:
        return None
    known = time if time.tzinfo else time.replace(tzinfo=UTC)
    return int(known.timestamp() * 1000)


def moment(unix_ms: int) -> str:
    """A time for people, in UTC, to the second. One that no calendar has, as devices' clocks may say, as a number."""
    try:
        return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(" ", "seconds").removesuffix("+00:00")
    except (ValueError, OverflowError, OSError):
        return f"{unix_ms} ms"
