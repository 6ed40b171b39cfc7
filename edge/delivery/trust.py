"""Whom this device believes now: The Update Framework's metadata, refreshed before each use and from time to time.

Without fresh metadata the device serves on with what it has, installs nothing new, and raises an alarm.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from tuf.api.exceptions import DownloadError, ExpiredMetadataError, RepositoryError

from edge.delivery.entities import NotDelivered, Rejected
from edge.delivery.trust_client import Bridge, Keys, Verified, expires_ms, refresh
from edge.delivery.trust_sources import Source
from edge.foundation import clock, disk

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
SPREAD_S = 2.0
"""After news a fleet asks within this time, not all at once."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Kept:
    """What was verified for `target`."""

    target: str
    verified: Verified


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
        self._kept: dict[str, _Kept] = {}
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
        target = f"{model}/{version}"
        verified = await self._refreshed(target)
        if issued_ms >= verified.expires_ms:
            raise NotDelivered(_expired(verified.expires_ms, issued_ms))
        if target not in verified.targets:
            raise NotDelivered(f"the fleet's metadata does not list {model} version {version}; looking again later")
        if verified.targets[target] != manifest:
            raise Rejected(f"the fleet's metadata lists another manifest for {model} version {version}")

    async def run(self) -> None:
        """Refresh from time to time and at news until cancelled, sooner after a failure.

        So what a deployment needs is known, most times, before it comes.
        """
        failures = 0
        while True:
            try:
                await self._renew()
                failures = 0
            except (NotDelivered, OSError) as error:
                log.warning("metadata not refreshed", reason=str(error))
                failures += 1
            await self._wait(self._pause_s(failures))

    async def _renew(self) -> None:
        for target in [kept.target for kept in self._kept.values() if kept.target]:
            await self._refreshed(target)
        await self._refreshed()

    async def _wait(self, pause_s: float) -> None:
        """At least once in `refresh_s` all is asked for anew, whatever was told."""
        seen = self._kept[""].verified.version if "" in self._kept else 0
        try:
            async with asyncio.timeout(pause_s):
                await self._sources[0].news(seen)
                await asyncio.sleep(SPREAD_S * random.random())  # noqa: S311 - as below
        except TimeoutError:
            self._kept.pop("", None)

    def _pause_s(self, failures: int) -> float:
        """With jitter, so that a fleet that starts together does not ask together."""
        failed = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures, 16))
        return min(self._refresh_s, failed if failures else self._refresh_s) * (0.5 + random.random() / 2)  # noqa: S311

    async def _refreshed(self, target: str = "") -> Verified:
        """What fresh metadata says: what was verified last, if the broker has told of nothing newer since."""
        if not self._root:
            self._problem = "this device's trust.json has no root: copy the cloud's newer one, and start again"
            raise NotDelivered(self._problem)
        async with self._turn:
            model = target.partition("/")[0]
            kept = self._kept.get(model)
            if kept and self._holds(kept) and (not target or target in kept.verified.targets):
                return kept.verified
            verified = await self._asked_for(target)
            self._kept[model] = self._kept[""] = _Kept(target, verified)
            return verified

    def _holds(self, kept: _Kept) -> bool:
        """Whoever keeps the news of newer metadata from this device could keep the metadata itself from it as well."""
        unexpired = clock.at_least(self._clock_ms()) < kept.verified.expires_ms
        return unexpired and 0 < self._sources[0].announced <= kept.verified.version

    async def _asked_for(self, target: str) -> Verified:
        found: Verified | None = None
        reasons: list[NotDelivered] = []
        for source in self._sources:
            try:
                found = await self._attempt(source, target)
            except NotDelivered as error:
                reasons.append(error)
            else:
                self._problem = ""
                if found.targets or not target:
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
        except OSError as error:
            self._problem = f"metadata is not stored: {disk.told(error)}"
            raise
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
