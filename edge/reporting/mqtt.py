"""The device's voice on the broker: its report whenever something changes, its presence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from protos import topics
from protos.kit.link import Link, Offline, Will
from protos.v1.report_pb2 import Report

ONLINE = b"online"
OFFLINE = b"offline"
SHORTEST_S = 0.2
"""Between two reports: a download changes the state with every chunk."""


def will(device: str) -> Will:
    """What the broker says when this device is gone without a word."""
    return Will(topics.presence(device), OFFLINE)


class Reports:
    """Publishes the newest report, retained: after every change, every `report_s` seconds, after every connect."""

    def __init__(self, link: Link, device: str, build: Callable[[], Report], report_s: float) -> None:
        self._link = link
        self._device = device
        self._build = build
        self._report_s = report_s
        self._bell = asyncio.Event()
        link.on_connect(self._greet)

    def changed(self) -> None:
        """Something that a report tells has changed."""
        self._bell.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            try:
                await self._publish()
            except Offline:
                await self._link.connected.wait()
                continue
            await asyncio.sleep(SHORTEST_S)
            await self._news()

    async def farewell(self) -> None:
        """The last report and the word that this device is gone; nothing if the broker is."""
        try:
            await self._publish()
            await self._link.publish(topics.presence(self._device), OFFLINE, retain=True)
        except Offline:
            return

    async def _greet(self) -> None:
        await self._link.publish(topics.presence(self._device), ONLINE, retain=True)
        self.changed()

    async def _news(self) -> None:
        try:
            await asyncio.wait_for(self._bell.wait(), self._report_s)
        except TimeoutError:
            return

    async def _publish(self) -> None:
        self._bell.clear()
        report = self._build().SerializeToString()
        await self._link.publish(topics.reported(self._device), report, retain=True)
