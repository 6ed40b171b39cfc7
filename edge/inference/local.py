"""The sources and sinks on the device that its settings ask for."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from edge.foundation.settings import EdgeSettings
from edge.inference.by_slot import BySlot
from edge.inference.folder import Folder
from edge.inference.home_assistant import HomeAssistant
from edge.inference.mqtt import FramesTopic, to_topic
from edge.inference.sensor import Reading, Sensor
from edge.inference.service import Inference
from edge.inference.sinks import Sink, Write, to_file
from protos.kit.link import Address, Link

FOLDER_SOURCE = "folder"
TOPIC_SOURCE = "topic"
SENSOR_SOURCE = "sensor"
SENSOR_BOOKMARK = "sensor.json"
CAMERA_SOURCE = "camera"
CAMERA_BOOKMARK = "camera.json"


def tasks(settings: EdgeSettings, inference: Inference | BySlot) -> dict[str, Coroutine[Any, Any, None]]:
    """What is to run beside the agent, by name; each until it is cancelled."""
    slots = BySlot.of_one(inference)
    wanted: dict[str, Coroutine[Any, Any, None]] = {}
    if settings.watch != Path():
        wanted["watched folder"] = Folder(
            settings.watch.expanduser(), FOLDER_SOURCE, slots.of(settings.watch_slot)
        ).run()
    if settings.sensor != Path():
        columns = [int(column) - 1 for column in filter(None, settings.sensor_columns.split(","))]
        reading = Reading(settings.sensor.expanduser(), settings.sensor_hop, columns, settings.sensor_baud)
        wanted["sensor"] = Sensor(
            reading, SENSOR_SOURCE, slots.of(settings.sensor_slot), settings.dir / SENSOR_BOOKMARK
        ).run()
    if settings.camera:
        from edge.inference.camera import Camera  # noqa: PLC0415 - OpenCV is an extra, and large

        wanted["camera"] = Camera(
            settings.camera, CAMERA_SOURCE, slots.of(settings.camera_slot), settings.dir / CAMERA_BOOKMARK
        ).run()
    if settings.results_file != Path():
        wanted["results to a file"] = _sink("file", to_file(settings.results_file.expanduser()), slots)
    if settings.webhook:
        from edge.inference.webhook import Webhook  # noqa: PLC0415 - aiohttp takes 11 MB, where it is asked for

        webhook = Webhook(settings.webhook, settings.webhook_token, settings.id, settings.webhook_timeout_s)
        slots.on_results(webhook.sink.offer)
        wanted["results to a webhook"] = webhook.run()
    if settings.home_assistant:
        address = Address.parse(settings.local_broker)
        home = HomeAssistant(address, settings.home_assistant, settings.id, lambda: slots.main.blueprint)
        slots.on_results(home.offer)
        wanted["results to home assistant"] = home.run()
    if settings.local_broker and (settings.frames_topic or settings.results_topic):
        link = Link(Address.parse(settings.local_broker), f"littoral-{settings.id}-local")
        wanted["local broker"] = link.run()
        if settings.frames_topic:
            wanted["frames from a topic"] = FramesTopic(
                link, settings.frames_topic, TOPIC_SOURCE, slots.of(settings.frames_slot)
            ).run()
        if settings.results_topic:
            wanted["results to a topic"] = _sink("topic", to_topic(link, settings.results_topic), slots)
    return wanted


def _sink(name: str, write: Write, slots: BySlot) -> Coroutine[Any, Any, None]:
    sink = Sink(name, write)
    slots.on_results(sink.offer)
    return sink.run()
