"""What a person sees of a run, on standard error: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table

PLAIN_EVERY_S = 10.0
COLUMNS = ("agent", "online", "model", "update", "inferences/s", "p50", "p95", "outbox")

Device = Mapping[str, Any]


class View(Protocol):
    """Where the run tells what it does."""

    def step(self, title: str) -> None:
        """A new step begins."""

    def note(self, text: str) -> None:
        """Something happened that a person wants to know."""

    def draw(self, devices: Sequence[Device]) -> None:
        """The fleet as it is now."""

    def aside(self) -> AbstractContextManager[None]:
        """Leave the screen to somebody else's progress bar for a while."""


class LiveView:
    """A table that stays at the bottom of the terminal, the steps above it."""

    def __init__(self, console: Console, live: Live) -> None:
        self._console = console
        self._live = live

    def step(self, title: str) -> None:
        """A new step begins."""
        self._console.print(f"[bold]{title}[/bold]")

    def note(self, text: str) -> None:
        """Something happened that a person wants to know."""
        self._console.print(f"  {text}", markup=False)

    def draw(self, devices: Sequence[Device]) -> None:
        """The fleet as it is now."""
        if self._live.is_started:  # not while somebody else has the screen
            self._live.update(fleet_table(devices), refresh=True)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave the screen to somebody else's progress bar for a while."""
        self._live.stop()
        try:
            yield
        finally:
            self._live.start()


class PlainView:
    """Lines: each step, each change of a device's model or state, and the fleet now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: dict[str, str] = {}
        self._told_at = time.monotonic()

    def step(self, title: str) -> None:
        """A new step begins."""
        self._line(title)

    def note(self, text: str) -> None:
        """Something happened that a person wants to know."""
        self._line(f"  {text}")

    def draw(self, devices: Sequence[Device]) -> None:
        """The fleet as it is now."""
        for device in devices:
            now = f"{_model(device)}, {device['state']}" + ("" if device["online"] else ", offline")
            if self._seen.get(device["id"]) != now:
                self._seen[device["id"]] = now
                self.note(f"{device['id']}: {now}")
        if devices and time.monotonic() - self._told_at >= PLAIN_EVERY_S:
            self._told_at = time.monotonic()
            self.note(_fleet_line(devices))

    def aside(self) -> AbstractContextManager[None]:
        """Lines need no screen of their own."""
        return nullcontext()

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def open_view() -> Iterator[View]:
    """The view that fits standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield PlainView(console)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield LiveView(console, live)


def fleet_table(devices: Sequence[Device]) -> Table:
    """One row an agent."""
    table = Table(*COLUMNS[:1], title="fleet", title_justify="left")
    for name in COLUMNS[1:]:
        table.add_column(name, justify="right" if name in COLUMNS[4:] else "left")
    for device in devices:
        table.add_row(*_row(device))
    return table


def _row(device: Device) -> list[str]:
    online = "[green]yes[/green]" if device["online"] else "[red]no[/red]"
    return [device["id"], online, _model(device), _state(device["state"]), *_measures(device["telemetry"])]


def _measures(telemetry: Mapping[str, Any] | None) -> list[str]:
    if telemetry is None:
        return ["-"] * 4
    p50, p95 = (f"{telemetry[name] / 1000:.1f} ms" for name in ("latency_p50_us", "latency_p95_us"))
    return [f"{telemetry['inferences_per_s']:.0f}", p50, p95, str(telemetry["outbox_rows"])]


def _model(device: Device) -> str:
    return f"{device['model']} v{device['version']}" if device["version"] else "no model"


def _state(state: str) -> str:
    colour = {"committed": "green", "refused": "red", "rolled_back": "red", "idle": "dim"}.get(state, "yellow")
    return f"[{colour}]{state.replace('_', ' ')}[/{colour}]"


def _fleet_line(devices: Sequence[Device]) -> str:
    telemetry = [device["telemetry"] for device in devices if device["telemetry"]]
    rate = sum(entry["inferences_per_s"] for entry in telemetry)
    waiting = sum(entry["outbox_rows"] for entry in telemetry)
    slowest = max((entry["latency_p95_us"] for entry in telemetry), default=0) / 1000
    online = sum(bool(device["online"]) for device in devices)
    return (
        f"fleet: {online} online, {rate:.0f} inferences/s, p95 {slowest:.1f} ms at most, {waiting} results in outboxes"
    )
