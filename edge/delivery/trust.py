"""Whom this device believes now: The Update Framework's metadata, refreshed before each use and from time to time.

Without fresh metadata the device serves on with what it has, installs nothing new, and raises an alarm.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
from tuf.api.exceptions import DownloadError, ExpiredMetadataError, RepositoryError

from edge.delivery.entities import NotDelivered, Rejected
from edge.delivery.trust_client import Bridge, Keys, Verified, expires_ms, refresh
from edge.delivery.trust_sources import Source
from edge.foundation import clock

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0

log = structlog.get_logger()


class Trust:
    """Metadata in `folder`, begun from `root`, a TUF root as bytes (empty: the device was given none).

    sources: the first is asked first, the next when what it gave could not be used. refresh_s: between two looks.
    """

    def __init__(
        self, folder: Path, root: bytes, sources: Sequence[Source], refresh_s: float, clock_ms: Callable[[], int]
    ) -> None:
        self._folder = folder
        self._root = root
        self._sources = sources
        self._refresh_s = refresh_s
        self._clock_ms = clock_ms
        self._turn = asyncio.Lock()
        self._expires_ms = expires_ms(folder)
        self._problem = ""

    @property
    def alarms(self) -> list[str]:
        """What a person should look at; empty: all is well."""
        found = [self._problem] if self._problem else []
        if self._is_expired():
            found.append(_expired(self._expires_ms, self._clock_ms()))
        return found

    def _is_expired(self) -> bool:
        return 0 < self._expires_ms <= clock.at_least(self._clock_ms())

    async def directors(self) -> Keys:
        """The keys whose deployments count, after a refresh. Raises NotDelivered while there is no fresh metadata."""
        return (await self._refreshed()).directors

    async def check(self, model: str, version: int, manifest: bytes, issued_ms: int) -> None:
        """That fresh metadata lists this digest for the version. issued_ms: when a trusted key asked for it.

        Raises NotDelivered while it does not, Rejected if it lists another one.
        """
        verified = await self._refreshed(f"{model}/{version}")
        if issued_ms >= verified.expires_ms:
            raise NotDelivered(_expired(verified.expires_ms, issued_ms))
        if verified.target is None:
            raise NotDelivered(f"the fleet's metadata does not list {model} version {version}; looking again later")
        if verified.target != manifest:
            raise Rejected(f"the fleet's metadata lists another manifest for {model} version {version}")

    async def run(self) -> None:
        """Refresh from time to time until cancelled, sooner after a failure."""
        failures = 0
        while True:
            try:
                await self._refreshed()
                failures = 0
            except (NotDelivered, OSError) as error:
                log.warning("metadata not refreshed", reason=str(error))
                failures += 1
            await asyncio.sleep(self._pause_s(failures))

    def _pause_s(self, failures: int) -> float:
        """With jitter, so that a fleet that starts together does not ask together."""
        failed = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures, 16))
        return min(self._refresh_s, failed if failures else self._refresh_s) * (0.5 + random.random() / 2)  # noqa: S311

    async def _refreshed(self, target: str = "") -> Verified:
        if not self._root:
            self._problem = "this device's trust.json has no root: copy the cloud's newer one, and start again"
            raise NotDelivered(self._problem)
        async with self._turn:
            found: Verified | None = None
            reasons: list[NotDelivered] = []
            for source in self._sources:
                try:
                    found = await self._attempt(source, target)
                except NotDelivered as error:
                    reasons.append(error)
                else:
                    self._problem = ""
                    if found.target or not target:
                        break  # else a source that keeps news back must not keep the device from another one
            if found is None:
                raise reasons[0]
            return found

    async def _attempt(self, source: Source, target: str) -> Verified:
        try:
            verified = await self._in_thread(Bridge(source), target)
        except DownloadError as error:
            self._problem = self._problem or ("" if self._expires_ms else f"no metadata has come yet: {error}")
            raise NotDelivered(f"no fresh metadata: {error}") from error
        except ExpiredMetadataError as error:
            reason = f"{error}; it is {clock.text(self._clock_ms())} here"
            self._problem = "" if self._is_expired() else reason  # else the alarm of expiry says it already
            raise NotDelivered(reason) from error
        except RepositoryError as error:
            self._problem = f"metadata is not believed: {error}"
            raise NotDelivered(self._problem) from error
        finally:
            self._expires_ms = await asyncio.to_thread(expires_ms, self._folder)
        if clock.at_least(self._clock_ms()) >= verified.expires_ms:
            raise NotDelivered(_expired(verified.expires_ms, self._clock_ms()))
        return verified

    async def _in_thread(self, bridge: Bridge, target: str) -> Verified:
        """When cancelled, the thread is broken off and waited for: no two may work on one folder."""
        task = asyncio.create_task(asyncio.to_thread(refresh, self._folder, self._root, bridge, target))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            bridge.break_off()
            await asyncio.wait({task})
            raise


def _expired(expires_ms: int, now_ms: int) -> str:
    return (
        f"the fleet's metadata expired at {clock.text(expires_ms)}, it is {clock.text(now_ms)} here: "
        "nothing new is installed until newer metadata comes"
    )
