"""`littoral results` and `littoral audit`: what the database holds of all results, over the API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Group, RenderableType

from cloud.foundation.client import Api
from cloud.foundation.settings import CloudSettings
from cloud.foundation.show import emit, json_option, table
from cloud.uplink.quarantine_commands import quarantine_command
from cloud.uplink.query_commands import COMMANDS
from protos.kit.kinds import Kind
from protos.kit.settings import load, options

AUDIT_S = 3600.0
"""It reads every row, and there may be billions."""
AUDITED = {Kind.RESULTS: "results", Kind.EVENTS: "events", Kind.TELEMETRY: "intervals of telemetry"}
AUDIT = """By device: {what} that it says it sent beside those stored: how many are lost, how many doubled.

Fails (exit code 1) unless both are 0. What waits in a device's outbox, was dropped by the outbox's policy, is in
quarantine or went by retention is not lost. It reads every row that there is.

\b
Example:
  littoral audit {kind} --json
"""


@click.group()
def results() -> None:
    """Results that the devices sent.

    \b
    Example:
      littoral results summary --json
    """


@results.command()
@click.option("--model", help="Model to show by version; needed only if there are results of several.")
@json_option
@options(CloudSettings, only=("api",))
def summary(model: str | None, as_json: bool, **flags: Any) -> None:  # noqa: ANN401, FBT001 - as click hands them over
    """Sent, stored, lost and duplicated frames, accuracy by version.

    \b
    Example:
      littoral results summary
    """
    found = _api(flags).get("/api/v1/summary", {"model": model} if model else None)
    emit(found, as_json, _draw_summary)


for command in (*COMMANDS, quarantine_command):
    results.add_command(command)


@click.group()
def audit() -> None:
    """Whether the books balance.

    \b
    Example:
      littoral audit results
    """


def _audit(kind: Kind) -> click.Command:
    """The command that audits one kind."""

    @json_option
    @options(CloudSettings, only=("api",))
    def command(as_json: bool, **flags: Any) -> None:  # noqa: ANN401, FBT001 - as click hands them over
        found = _api(flags).get(f"/api/v1/audit/{kind}", patience_s=AUDIT_S)
        emit(found, as_json, _draw_audit)
        if any(one["lost"] or one["doubled"] for one in found):
            click.get_current_context().exit(1)

    return click.command(str(kind), help=AUDIT.format(what=AUDITED[kind], kind=kind))(command)


for audited in Kind:
    audit.add_command(_audit(audited))


def _api(flags: dict[str, Any]) -> Api:
    return Api(load(CloudSettings, flags.pop("config"), flags).api)


def _draw_summary(found: dict[str, Any]) -> RenderableType:
    totals = ("sent", "stored", "lost", "duplicated", "results_total", "skipped", "quarantined")
    counts = table("Frames", totals, [[found[name] for name in totals]])
    rows = [
        (found["model"], version, count, _percent(found["accuracy"].get(version)))
        for version, count in found["results_per_version"].items()
    ]
    return Group(counts, table("Results by version", ("model", "version", "results", "accuracy"), rows))


def _draw_audit(found: list[dict[str, Any]]) -> RenderableType:
    counts = ("made", "waiting", "dropped", "sent", "stored", "quarantined", "expired", "lost", "doubled")
    totals = [sum(one[name] for one in found) for name in counts]
    rows = [[one["device"], *(one[name] for name in counts), _moment(one["said_ms"])] for one in found]
    return table("Audit", ("device", *counts, "device's word (UTC)"), [*rows, ["all", *totals, ""]])


def _moment(unix_ms: int | None) -> str:
    return "never" if unix_ms is None else f"{datetime.fromtimestamp(unix_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"
