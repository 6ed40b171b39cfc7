"""Home Assistant finds the device by itself: MQTT discovery on the local broker.

Each source becomes two sensors, its newest label and how sure the model is of it, told at most once a second.
https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from edge.foundation.version import agent_version
from edge.inference.entities import Blueprint
from edge.inference.sinks import as_json
from edge.uplink.entities import NewBatch
from protos.kit import columns
from protos.kit.link import Address, Link, Offline, Will

STATE_S = 1.0
FAREWELL_S = 1.0
ONLINE, OFFLINE = b"online", b"offline"


class HomeAssistant:
    """Tells states under `littoral-edge/DEVICE`, and what they are under `prefix`.

    serving: the models that serve in all slots, whose labels have names.
    """

    def __init__(self, address: Address, prefix: str, device: str, serving: Callable[[], Iterable[Blueprint]]) -> None:
        self._root = f"littoral-edge/{device}"
        self._prefix = prefix
        self._device = device
        self._serving = serving
        self._link = Link(address, f"littoral-{device}-home", Will(self._availability, OFFLINE))
        self._link.on_connect(self._greet)
        self._newest: dict[str, NewBatch] = {}
        self._known: set[str] = set()
        self._bell = asyncio.Event()

    def offer(self, batch: NewBatch) -> None:
        """Results that are durable. Returns at once; of each source the newest are kept."""
        if batch.count:
            self._newest[batch.source] = batch
            self._bell.set()

    async def run(self) -> None:
        """Tell until cancelled."""
        linking = asyncio.create_task(self._link.run(), name="link to home assistant")
        try:
            while True:
                await self._bell.wait()
                await self._link.connected.wait()
                self._bell.clear()
                await self._tell()
                await asyncio.sleep(STATE_S)
        finally:
            await self._farewell()
            linking.cancel()
            await asyncio.gather(linking, return_exceptions=True)

    async def _tell(self) -> None:
        newest, self._newest = self._newest, {}
        for source, batch in newest.items():
            try:
                if source not in self._known:
                    await self._introduce(source)
                await self._link.publish(self._state(source), self._told(batch), retain=True)
            except Offline:
                self._newest.setdefault(source, batch)  # told after the next connect, if nothing newer is there
                self._bell.set()

    async def _greet(self) -> None:
        """The broker is not trusted to remember."""
        await self._link.publish(self._availability, ONLINE, retain=True)
        for source in tuple(self._known):
            await self._introduce(source)

    async def _introduce(self, source: str) -> None:
        for topic, config in self._configs(source):
            await self._link.publish(topic, json.dumps(config).encode(), retain=True)
        self._known.add(source)

    async def _farewell(self) -> None:
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self._link.publish(self._availability, OFFLINE, retain=True)
        except (TimeoutError, Offline):
            pass  # the broker knows this device's will

    def _configs(self, source: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Topic and content of each sensor's introduction."""
        confidence = {"unit_of_measurement": "%", "state_class": "measurement", "suggested_display_precision": 0}
        for what, value, more in (
            ("label", "value_json.label", {"json_attributes_topic": self._state(source)}),
            ("confidence", "(value_json.confidence * 100) | round(2)", confidence),
        ):
            node, thing = _identifier(self._device), _identifier(f"{source}-{what}")
            yield (
                f"{self._prefix}/sensor/{node}/{thing}/config",
                {
                    "name": f"{source} {what}",
                    "unique_id": f"littoral-{node}-{thing}",
                    "state_topic": self._state(source),
                    "value_template": f"{{{{ {value} }}}}",
                    "availability_topic": self._availability,
                    "device": {
                        "identifiers": [f"littoral-{node}"],
                        "name": self._device,
                        "manufacturer": "Littoral",
                        "sw_version": agent_version(),
                    },
                    "origin": {"name": "littoral-edge", "sw_version": agent_version()},
                    **more,
                },
            )

    def _told(self, batch: NewBatch) -> bytes:
        """The newest result of a batch, with its label's name where the model that gave it still serves."""
        newest: dict[str, Any] = as_json(columns.decode(batch.payload, batch.count))[-1]
        labels, place = self._labels(newest["model"], newest["version"]), newest["label"]
        return json.dumps(
            newest | {"class": place, "label": labels[place] if place < len(labels) else str(place)}
        ).encode()

    def _labels(self, model: str, version: int) -> tuple[str, ...]:
        same = (one.labels for one in self._serving() if (one.model, one.version) == (model, version))
        return next(same, ())

    def _state(self, source: str) -> str:
        return f"{self._root}/{source}/state"

    @property
    def _availability(self) -> str:
        return f"{self._root}/availability"


def _identifier(name: str) -> str:
    """Home Assistant takes no dots in the topics that it looks for."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)
