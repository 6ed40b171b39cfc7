"""Devices over MQTT: reports and presence, gathered and taken together."""

from __future__ import annotations

import asyncio
import time

import structlog
from google.protobuf.message import DecodeError

from cloud.fleet.entities import Presence
from cloud.fleet.service import Fleet
from protos import topics
from protos.kit.link import Link
from protos.v1 import report_pb2

MAX_WAITING = 20_000
"""Messages that may wait for the database; beyond it the session with the broker is read no further."""
MAX_TAKEN = 1000
PRESENCE = {b"online": True, b"offline": False}
RETRY_S = 1.0

log = structlog.get_logger()
News = report_pb2.Report | Presence


class FleetMessages:
    """Hands the fleet what devices publish. One transaction takes all that came while the last one was written."""

    def __init__(self, link: Link, fleet: Fleet) -> None:
        self._link = link
        self._fleet = fleet
        self._waiting: asyncio.Queue[News] = asyncio.Queue(MAX_WAITING)

    async def run(self) -> None:
        """Subscribe, and take messages until cancelled. The link is run by its owner."""
        await self._link.subscribe(self._on_report, topics.ALL_REPORTED)
        await self._link.subscribe(self._on_presence, topics.ALL_PRESENCE)
        while True:
            news = [await self._waiting.get()]
            while len(news) < MAX_TAKEN and not self._waiting.empty():
                news.append(self._waiting.get_nowait())
            await self._take(news)

    async def _take(self, news: list[News]) -> None:
        """Until it is taken: a presence is not said twice."""
        while True:
            try:
                rejections = await asyncio.to_thread(self._fleet.take, news, int(time.time() * 1000))
            except Exception:
                log.exception("device messages not stored yet", messages=len(news))
                await asyncio.sleep(RETRY_S)
                continue
            for rejection in rejections:
                log.warning("device not believed", device=rejection.device, reason=rejection.reason)
            return

    async def _on_report(self, topic: str, payload: bytes) -> None:
        try:
            device = topics.device_of(topic)
            report = report_pb2.Report.FromString(payload)
        except (ValueError, DecodeError) as error:
            log.warning("not a report", topic=topic, error=str(error))
            return
        if report.device != device:
            log.warning("report of another device", topic=topic, device=report.device)
            return
        await self._waiting.put(report)

    async def _on_presence(self, topic: str, payload: bytes) -> None:
        online = PRESENCE.get(payload)
        try:
            device = topics.device_of(topic)
        except ValueError as error:
            log.warning("not a device's topic", topic=topic, error=str(error))
            return
        if online is not None:
            await self._waiting.put(Presence(device, online))
