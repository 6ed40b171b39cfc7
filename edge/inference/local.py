"""The sources and sinks on the device that its settings ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from edge.foundation.events import Tell, untold
from edge.foundation.settings import EdgeSettings
from edge.inference import happenings
from edge.inference.by_slot import BySlot
from edge.inference.folder import Folder
from edge.inference.home_assistant import HomeAssistant
from edge.inference.mqtt import FramesTopic, to_topic
from edge.inference.sensor import Reading, Sensor
from edge.inference.service import Inference
from edge.inference.sinks import Sink, to_file
from protos.kit.link import Address, Link

FOLDER_SOURCE = "folder"
TOPIC_SOURCE = "topic"
SENSOR_SOURCE = "sensor"
SENSOR_BOOKMARK = "sensor.json"
CAMERA_SOURCE = "camera"
CAMERA_BOOKMARK = "camera.json"
AGAIN_S = 5.0

_Task = Coroutine[Any, Any, None]
_Work = Callable[[], _Task]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Ends:
    """Where frames come from and results go, by name. tasks: to run beside the agent, each until it is cancelled.

    tell: hears of their troubles.
    """

    tell: Tell
    tasks: dict[str, _Task] = field(default_factory=dict)
    sinks: dict[str, Sink] = field(default_factory=dict)

    def do(self, name: str, work: _Work) -> None:
        """Have this work done beside the agent."""
        self.tasks[name] = kept_up(name, work, self.tell)

    def add(self, sink: Sink, slots: BySlot, work: _Work) -> None:
        """A sink of the results of all slots, and what runs it."""
        sink.tell = self.tell
        slots.on_results(sink.offer)
        self.sinks[sink.name] = sink
        self.do(f"results to {sink.name}", work)


def ends(settings: EdgeSettings, inference: Inference | BySlot, tell: Tell = untold) -> Ends:
    """What the settings ask for. tell: hears of their troubles."""
    found, slots = Ends(tell), BySlot.of_one(inference)
    for name, work in _sources(settings, slots):
        found.do(name, work)
    if settings.results_file != Path():
        sink = Sink("file", to_file(settings.results_file.expanduser()))
        found.add(sink, slots, sink.run)
    if settings.webhook:
        from edge.inference.webhook import Webhook  # noqa: PLC0415 - aiohttp takes 11 MB, where it is asked for

        webhook = Webhook(settings.webhook, settings.webhook_token, settings.id, settings.webhook_timeout_s)
        found.add(webhook.sink, slots, webhook.run)
    if settings.home_assistant:
        address = Address.parse(settings.local_broker)
        home = HomeAssistant(address, settings.home_assistant, settings.id, slots.serving)
        slots.on_results(home.offer)
        found.do("results to home assistant", home.run)
    if settings.local_broker and (settings.frames_topic or settings.results_topic):
        _local_broker(settings, slots, found)
    return found


async def kept_up(name: str, work: _Work, tell: Tell = untold) -> None:
    """Do this work, and begin again when it fails: what one source or sink stumbles over must not end the agent."""
    while True:
        try:
            return await work()
        except Exception as error:
            log.exception("a source or sink failed, and begins again", name=name)
            tell(happenings.failed(name, error))
            await asyncio.sleep(AGAIN_S)


def _sources(settings: EdgeSettings, slots: BySlot) -> Iterator[tuple[str, _Work]]:
    if settings.watch != Path():
        watched = settings.watch.expanduser()
        yield "watched folder", Folder(watched, FOLDER_SOURCE, slots.of(settings.watch_slot)).run
    if settings.sensor != Path():
        columns = [int(column) - 1 for column in filter(None, settings.sensor_columns.split(","))]
        reading = Reading(settings.sensor.expanduser(), settings.sensor_hop, columns, settings.sensor_baud)
        bookmark = settings.dir / SENSOR_BOOKMARK
        yield "sensor", Sensor(reading, SENSOR_SOURCE, slots.of(settings.sensor_slot), bookmark).run
    if settings.camera:
        from edge.inference.camera import Camera  # noqa: PLC0415 - OpenCV is an extra, and large

        bookmark = settings.dir / CAMERA_BOOKMARK
        yield "camera", Camera(settings.camera, CAMERA_SOURCE, slots.of(settings.camera_slot), bookmark).run


def _local_broker(settings: EdgeSettings, slots: BySlot, found: Ends) -> None:
    link = Link(Address.parse(settings.local_broker), f"littoral-{settings.id}-local")
    found.do("local broker", link.run)
    if settings.frames_topic:
        slot = slots.of(settings.frames_slot)
        found.do("frames from a topic", FramesTopic(link, settings.frames_topic, TOPIC_SOURCE, slot).run)
    if settings.results_topic:
        sink = Sink("topic", to_topic(link, settings.results_topic))
        found.add(sink, slots, sink.run)
