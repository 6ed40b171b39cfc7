"""The sources and sinks on the device that its settings ask for."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.foundation.settings import EdgeSettings
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

_Task = Coroutine[Any, Any, None]


@dataclass(frozen=True, slots=True)
class Ends:
    """Where frames come from and results go, by name. tasks: to run beside the agent, each until it is cancelled."""

    tasks: dict[str, _Task] = field(default_factory=dict)
    sinks: dict[str, Sink] = field(default_factory=dict)

    def add(self, sink: Sink, slots: BySlot, task: _Task) -> None:
        """A sink of the results of all slots, and what runs it."""
        slots.on_results(sink.offer)
        self.sinks[sink.name] = sink
        self.tasks[f"results to {sink.name}"] = task


def ends(settings: EdgeSettings, inference: Inference | BySlot) -> Ends:
    """What the settings ask for."""
    found, slots = Ends(), BySlot.of_one(inference)
    found.tasks.update(_sources(settings, slots))
    if settings.results_file != Path():
        sink = Sink("file", to_file(settings.results_file.expanduser()))
        found.add(sink, slots, sink.run())
    if settings.webhook:
        from edge.inference.webhook import Webhook  # noqa: PLC0415 - aiohttp takes 11 MB, where it is asked for

        webhook = Webhook(settings.webhook, settings.webhook_token, settings.id, settings.webhook_timeout_s)
        found.add(webhook.sink, slots, webhook.run())
    if settings.home_assistant:
        address = Address.parse(settings.local_broker)
        home = HomeAssistant(address, settings.home_assistant, settings.id, lambda: slots.main.blueprint)
        slots.on_results(home.offer)
        found.tasks["results to home assistant"] = home.run()
    if settings.local_broker and (settings.frames_topic or settings.results_topic):
        _local_broker(settings, slots, found)
    return found


def _sources(settings: EdgeSettings, slots: BySlot) -> Iterator[tuple[str, _Task]]:
    if settings.watch != Path():
        watched = settings.watch.expanduser()
        yield "watched folder", Folder(watched, FOLDER_SOURCE, slots.of(settings.watch_slot)).run()
    if settings.sensor != Path():
        columns = [int(column) - 1 for column in filter(None, settings.sensor_columns.split(","))]
        reading = Reading(settings.sensor.expanduser(), settings.sensor_hop, columns, settings.sensor_baud)
        bookmark = settings.dir / SENSOR_BOOKMARK
        yield "sensor", Sensor(reading, SENSOR_SOURCE, slots.of(settings.sensor_slot), bookmark).run()
    if settings.camera:
        from edge.inference.camera import Camera  # noqa: PLC0415 - OpenCV is an extra, and large

        bookmark = settings.dir / CAMERA_BOOKMARK
        yield "camera", Camera(settings.camera, CAMERA_SOURCE, slots.of(settings.camera_slot), bookmark).run()


def _local_broker(settings: EdgeSettings, slots: BySlot, found: Ends) -> None:
    link = Link(Address.parse(settings.local_broker), f"littoral-{settings.id}-local")
    found.tasks["local broker"] = link.run()
    if settings.frames_topic:
        slot = slots.of(settings.frames_slot)
        found.tasks["frames from a topic"] = FramesTopic(link, settings.frames_topic, TOPIC_SOURCE, slot).run()
    if settings.results_topic:
        sink = Sink("topic", to_topic(link, settings.results_topic))
        found.add(sink, slots, sink.run())
