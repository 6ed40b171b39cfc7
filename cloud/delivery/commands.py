"""`littoral watch-mqtt`: what crosses the broker, decoded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import aiomqtt
import click

from cloud.delivery import sentences
from cloud.delivery.crossings import read
from cloud.delivery.watch import Seen, Unreachable, Watch
from cloud.foundation.settings import CloudSettings
from cloud.foundation.show import json_option
from protos.kit.link import Address
from protos.kit.settings import load, options
from protos.topics import ROOT

Show = Callable[[Seen], str]


def _pattern(context: click.Context, parameter: click.Parameter, value: str) -> str:
    del context, parameter
    try:
        return str(aiomqtt.Wildcard(value))
    except ValueError as error:
        raise click.BadParameter(
            f"{value!r} is no topic filter: + stands for one level, # at the end for all below"
        ) from error


@click.command("watch-mqtt")
@click.option(
    "--topic", "pattern", default=f"{ROOT}/#", show_default=True, callback=_pattern, help="Only these; + and # allowed."
)
@click.option("--count", type=click.IntRange(min=1), help="End after so many messages.")
@json_option
@options(CloudSettings, only=("broker", "host", "broker_port"))
def watch_mqtt(pattern: str, count: int | None, as_json: bool, **flags: Any) -> None:  # noqa: ANN401, FBT001 - as click hands them over
    """Show what crosses the broker, decoded, until Ctrl-C: first what it keeps, then each message as it comes.

    One line a message: when, whether the broker keeps it, its size, its channel in docs/asyncapi.yaml, whom it is of or
    for, and what it says. What breaks the contract is marked as a breach, with the reason. Signatures are not verified.
    A broker without MQTT 5 tells only of old messages that it keeps them. With --json, one object a line.

    \b
    Examples:
      littoral watch-mqtt
      littoral watch-mqtt --broker mqtt://broker.local --topic 'littoral/v1/devices/+/reported' --count 10 --json
    """
    settings = load(CloudSettings, flags.pop("config"), flags)
    address = Address.parse(settings.broker) if settings.broker else Address(settings.host, settings.broker_port)
    try:
        asyncio.run(_watch(Watch(address, pattern), count, _object if as_json else _line))
    except Unreachable as error:
        raise click.ClickException(f"{error}. Is it running? Name another one with --broker") from error


async def _watch(onlooker: Watch, count: int | None, show: Show) -> None:
    left = count
    async with onlooker as watch:
        missed = 0
        while left is None or left > 0:
            seen = (await watch.take())[:left]
            # In a thread: a terminal that stands still must not keep the broker's messages from being taken.
            await asyncio.to_thread(click.echo, "\n".join(map(show, seen)))
            left = None if left is None else left - len(seen)
            if watch.missed > missed:
                click.echo(f"{watch.missed - missed} messages came too fast to be shown", err=True)
                missed = watch.missed


def _line(seen: Seen) -> str:
    reading = read(seen.crossing)
    at = datetime.fromtimestamp(seen.at_s).astimezone()
    kept = "retained" if seen.crossing.retained else ""
    words = click.style(sentences.said(reading), fg="red" if reading.breaches else None)
    channel = click.style(f"{sentences.kind(reading):<9}", fg="cyan")
    size = f"{len(seen.crossing.payload):>7,} B"
    return (
        f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}  {kept:<8} {size}  {channel} {sentences.who(reading):<24}  {words}"
    )


def _object(seen: Seen) -> str:
    at = datetime.fromtimestamp(seen.at_s, UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": at, **sentences.document(read(seen.crossing))})
