"""The sources and sinks on the device that its settings ask for."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from edge.foundation.settings import EdgeSettings
from edge.inference.by_slot import BySlot
from edge.inference.folder import Folder
from edge.inference.mqtt import FramesTopic, to_topic
from edge.inference.service import Inference
from edge.inference.sinks import Sink, Write, to_file
from protos.kit.link import Address, Link

FOLDER_SOURCE = "folder"
TOPIC_SOURCE = "topic"


def tasks(settings: EdgeSettings, inference: Inference | BySlot) -> dict[str, Coroutine[Any, Any, None]]:
    """What is to run beside the agent, by name; each until it is cancelled."""
    slots = BySlot.of_one(inference)
    wanted: dict[str, Coroutine[Any, Any, None]] = {}
    if settings.watch != Path():
        wanted["watched folder"] = Folder(
            settings.watch.expanduser(), FOLDER_SOURCE, slots.of(settings.watch_slot)
        ).run()
    if settings.results_file != Path():
        wanted["results to a file"] = _sink("file", to_file(settings.results_file.expanduser()), slots)
    if settings.local_broker:
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
