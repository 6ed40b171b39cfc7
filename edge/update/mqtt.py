"""Desired state from the broker: verified by fresh metadata, then handed to the updater."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

import structlog

from edge.delivery.entities import NotDelivered
from edge.delivery.trust_client import Keys
from edge.foundation.events import Event, Severity
from edge.update import deployment
from edge.update.service import Updater
from protos import topics
from protos.kit.link import Link

MOST_WAITING = 16
"""Messages that wait for metadata; a broker that sends more loses the oldest."""

RETRY_S = 2.0

log = structlog.get_logger()


class Directors(Protocol):
    """Whose deployments count: `Trust`."""

    async def directors(self) -> Keys:
        """Their keys, from fresh metadata. Raises NotDelivered while there is none, or OSError."""


class DesiredState:
    """Listens to one slot's desired topic."""

    def __init__(self, link: Link, updater: Updater, device: str, slot: str, trust: Directors) -> None:
        self._link = link
        self._updater = updater
        self._device = device
        self._slot = slot
        self._trust = trust
        self._waiting: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._bell = asyncio.Event()

    async def listen(self) -> None:
        """From now on, and after every reconnect; the broker repeats the retained deployment each time."""
        await self._link.subscribe(self._take, topics.desired(self._device, self._slot))

    async def run(self) -> None:
        """Judge what has come, until cancelled."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            come = list(self._waiting)
            self._waiting.clear()
            try:
                # After the refresh, since a deployment may be signed by a key that only newer metadata names.
                keys = await self._trust.directors()
            except (NotDelivered, OSError) as error:
                log.warning("deployment waits for metadata", reason=str(error))
                self._waiting.extendleft(reversed(come))
                await asyncio.sleep(RETRY_S)
                self._bell.set()
            else:
                for data in come:
                    self._judge(data, keys)

    def _take(self, _: str, data: bytes) -> None:
        if data:  # else the publisher has cleared it
            self._waiting.append(data)
            self._bell.set()

    def _judge(self, data: bytes, keys: Keys) -> None:
        try:
            target = deployment.read(data, self._device, self._slot, keys)
        except deployment.NotForUs as error:
            log.warning("deployment not believed", reason=str(error))
            self._tell("update.not_believed", str(error))
            return
        try:
            self._updater.desire(target)
        except deployment.NotForUs as error:
            log.debug("deployment not newer", reason=str(error))
        except deployment.Expired as error:
            log.warning("deployment expired", reason=str(error))
            self._tell("update.expired", str(error))

    def _tell(self, kind: str, why: str) -> None:
        self._updater.tell(
            Event(kind, f"a deployment came and was not carried out: {why}", Severity.WARNING, self._slot)
        )
