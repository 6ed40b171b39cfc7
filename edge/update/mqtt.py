"""Desired state from the broker: verified, then handed to the updater."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edge.update import deployment
from edge.update.service import Updater
from protos import topics
from protos.kit.link import Link

log = structlog.get_logger()


class DesiredState:
    """Listens to one slot's desired topic."""

    def __init__(
        self, link: Link, updater: Updater, device: str, slot: str, keys: Mapping[str, Ed25519PublicKey]
    ) -> None:
        self._link = link
        self._updater = updater
        self._device = device
        self._slot = slot
        self._keys = keys

    async def listen(self) -> None:
        """From now on, and after every reconnect; the broker repeats the retained deployment each time."""
        await self._link.subscribe(self._take, topics.desired(self._device, self._slot))

    def _take(self, topic: str, data: bytes) -> None:
        if not data:
            return  # the publisher has cleared it
        try:
            target = deployment.read(data, self._device, self._slot, self._keys)
        except deployment.NotForUs as error:
            log.warning("deployment not believed", topic=topic, reason=str(error))
            return
        try:
            self._updater.desire(target)
        except deployment.NotForUs as error:
            log.debug("deployment not newer", reason=str(error))
        except deployment.Expired as error:
            log.warning("deployment expired", reason=str(error))
