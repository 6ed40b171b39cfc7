"""What a person sees of a run, on standard error: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

PLAIN_EVERY_S = 10.0
MEASURES = ("inferences/s", "p50", "p95", "outbox")
COLUMNS = ("agent", "online", "model", "update", *MEASURES)
STATE_STYLES = {"committed": "green", "refused": "red", "rolled_back": "red", "idle": "dim"}

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
        self._console.print(Text(title, style="bold"))

    def note(self, text: str) -> None:
        """Something happened that a person wants to know."""
        self._console.print(Text(f"  {text}"))

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
            now = f"model {_model(device)}, {device['state']}" + ("" if device["online"] else ", offline")
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
        self._console.print(Text(text), soft_wrap=True)


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
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for name in COLUMNS:
        table.add_column(name, justify="right" if name in MEASURES else "left", no_wrap=True)
    for device in devices:
        table.add_row(*_row(device))
    return table


def _row(device: Device) -> list[Text | str]:
    online = Text("yes", "green") if device["online"] else Text("no", "red")
    state = Text(device["state"].replace("_", " "), STATE_STYLES.get(device["state"], "yellow"))
    return [device["id"], online, _model(device), state, *_measures(device["telemetry"])]


def _measures(telemetry: Mapping[str, Any] | None) -> list[str]:
    if telemetry is None:
        return ["-"] * len(MEASURES)
    p50, p95 = (f"{telemetry[name] / 1000:.1f} ms" for name in ("latency_p50_us", "latency_p95_us"))
    return [f"{telemetry['inferences_per_s']:.0f}", p50, p95, str(telemetry["outbox_rows"])]


def _model(device: Device) -> str:
    return f"v{device['version']}" if device["version"] else "none"


def _fleet_line(devices: Sequence[Device]) -> str:
    telemetry = [device["telemetry"] for device in devices if device["telemetry"]]
    rate = sum(entry["inferences_per_s"] for entry in telemetry)
    waiting = sum(entry["outbox_rows"] for entry in telemetry)
    slowest = max((entry["latency_p95_us"] for entry in telemetry), default=0) / 1000
    online = sum(bool(device["online"]) for device in devices)
    return (
        f"fleet: {online} online, {rate:.0f} inferences/s, p95 {slowest:.1f} ms at most, {waiting} results in outboxes"
    )
