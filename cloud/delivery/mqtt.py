"""The publisher keeps on the broker what devices need: what the database says, whatever the broker remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Sequence
from contextlib import suppress

import structlog

from cloud.delivery.entities import BadRequest, Bundle
from cloud.delivery.outgoing import Outgoing
from cloud.delivery.rules import DOUBT_MS, Holdings, Repairs, read_request
from cloud.fleet.entities import Desired
from cloud.fleet.service import Fleet
from cloud.registry.entities import DamagedBlob, UnknownArtifact, UnknownModel, artifacts
from cloud.registry.service import Registry
from protos import topics
from protos.kit.link import Link, Offline

POLL_S = 0.2
BUSY = 4
"""A look at the database that took long is followed by a pause this many times as long."""
REVIEW_S = 2.0
"""Between two looks at all that is unanswered; in between only at what is new."""
REPAIR_S = 0.1
"""How long requests for lost chunks are gathered before they are answered together."""
RETRY_S = 1.0
MARKED_AT_ONCE = 500
MAX_SEEN = 10_000
"""Manifests on the broker that are remembered; whoever fills it with others cannot fill this process."""

log = structlog.get_logger()


class Publisher:
    """Publishes manifests, chunks and desired states, and clears what nobody needs. The link is run by its owner.

    Each bundle is brought by a task of its own, so that no desired state and no other bundle waits for a large one.
    """

    def __init__(self, link: Link, registry: Registry, fleet: Fleet) -> None:
        self._link = link
        self._registry = registry
        self._fleet = fleet
        self._holdings = Holdings()
        self._outgoing = Outgoing(link, registry, self._holdings)
        self._repairs = Repairs()
        self._asked = asyncio.Event()
        self._news = asyncio.Event()
        self._seen: set[bytes] = set()
        self._reviewed_s = float("-inf")
        self._reading_s = 0.0
        self._at_work: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Publish until cancelled."""
        self._link.on_connect(self._begin)
        await self._link.subscribe(self._on_request, topics.ALL_REPAIR)
        if self._link.connected.is_set():
            await self._begin()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._deliver(tasks), name="deliver")
            tasks.create_task(self._repair(), name="repair")

    async def _begin(self) -> None:
        """A connection begins: what the broker has kept it shows once more, now that it is waited for."""
        self._outgoing.connected(_now_ms())
        self._repairs = Repairs()
        self._seen.clear()
        self._review()
        asyncio.get_running_loop().call_later(DOUBT_MS / 1000, self._review)
        await self._link.subscribe(self._on_manifest, topics.ALL_MANIFESTS)

    async def _deliver(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            await self._link.connected.wait()
            try:
                await self._pass(tasks)
            except Offline as error:
                log.info("delivery waits for the broker", error=str(error))
            except Exception:
                log.exception("delivery interrupted")
                await asyncio.sleep(RETRY_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(POLL_S, BUSY * self._reading_s)):
                    await self._news.wait()
            self._news.clear()

    async def _pass(self, tasks: asyncio.TaskGroup) -> None:
        """Bring the broker to what the database says: all of it from time to time, what is new always."""
        connection, now_s = self._outgoing.connection, _now_s()
        wanted = await asyncio.to_thread(self._fleet.unpublished)
        if now_s - self._reviewed_s >= REVIEW_S:
            self._reviewed_s = now_s
            unanswered = await asyncio.to_thread(self._fleet.unanswered)
            wanted = _united(unanswered, wanted)
            self._start(tasks, "tidy", self._tidy(connection, {row.manifest for row in unanswered}))
        self._reading_s = _now_s() - now_s
        for manifest in self._holdings.missing(wanted, _now_ms()):
            self._start(tasks, f"bring {manifest.hex()}", self._bring(connection, manifest))
        await self._tell(connection, wanted)

    def _start(self, tasks: asyncio.TaskGroup, name: str, work: Coroutine[None, None, None]) -> None:
        """Have `work` done beside the passes, unless work of this name is being done."""
        if name in self._at_work:
            work.close()
            return
        self._at_work[name] = task = tasks.create_task(self._attempted(work), name=name)
        task.add_done_callback(lambda _: self._at_work.pop(name))

    async def _attempted(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Offline as error:
            log.info("delivery waits for the broker", error=str(error))
        except Exception:
            log.exception("delivery interrupted")
            await asyncio.sleep(RETRY_S)

    async def _bring(self, connection: int, manifest: bytes) -> None:
        """Publish what the broker lacks of a bundle; then its desired states are due."""
        try:
            bundle = await self._bundle(manifest)
            chunks = self._holdings.begun(bundle, _now_ms())
            log.info("publishing model", manifest=manifest.hex(), chunks=len(chunks))
            await self._outgoing.bring(connection, bundle, chunks)
        except (UnknownModel, UnknownArtifact, DamagedBlob) as error:
            self._holdings.failed(manifest, _now_ms())
            log.error("model cannot be delivered", manifest=manifest.hex(), error=str(error))
        self._review()

    async def _bundle(self, manifest: bytes) -> Bundle:
        version = await asyncio.to_thread(self._registry.by_digest, manifest)
        counts = {artifact.digest: len(artifact.chunks) for artifact in artifacts(version.parsed())}
        return Bundle(manifest, version.signed, counts)

    async def _tell(self, connection: int, wanted: Sequence[Desired]) -> None:
        """Publish the desired states that are due."""
        due = self._holdings.due(wanted)
        for start in range(0, len(due), MARKED_AT_ONCE):
            some = due[start : start + MARKED_AT_ONCE]
            await self._outgoing.tell(connection, some)
            await asyncio.to_thread(self._fleet.mark_published, some)

    async def _tidy(self, connection: int, needed: Collection[bytes]) -> None:
        """Clear what nobody needs, also what an earlier run of this program left on the broker."""
        for manifest in [manifest for manifest in self._seen if not self._holdings.knows(manifest)]:
            try:
                self._holdings.found(await self._bundle(manifest), _now_ms())
            except UnknownModel:
                self._seen.discard(manifest)  # not ours to clear
        for manifest in self._holdings.stale(needed, _now_ms()):
            gone = self._holdings.dropped(manifest)
            await self._outgoing.clear(connection, manifest, gone)
            log.info("model cleared from the broker", manifest=manifest.hex(), chunks=sum(gone.values()))

    def _review(self) -> None:
        """Look at all that is unanswered at once."""
        self._reviewed_s = float("-inf")
        self._news.set()

    def _on_manifest(self, topic: str, payload: bytes) -> None:
        """What is on the broker, from this run of the program or an earlier one."""
        manifest = bytes.fromhex(topic.rpartition("/")[2])
        if not payload:
            self._seen.discard(manifest)
            return
        if len(self._seen) < MAX_SEEN:
            self._seen.add(manifest)
        if self._holdings.seen(manifest, payload):
            self._review()

    def _on_request(self, topic: str, payload: bytes) -> None:
        try:
            artifact = topics.artifact_of(topic)
            missing = read_request(artifact, payload, self._holdings.chunks(artifact))
        except (ValueError, BadRequest) as error:
            log.warning("repair request ignored", topic=topic, error=str(error))
            return
        self._repairs.ask(artifact, missing)
        self._asked.set()

    async def _repair(self) -> None:
        while True:
            await self._asked.wait()
            await asyncio.sleep(REPAIR_S)
            self._asked.clear()
            chunks = self._repairs.take(_now_ms())
            if chunks:
                log.info("sending lost chunks again", chunks=len(chunks))
            try:
                await self._outgoing.send(self._outgoing.connection, chunks)
            except Offline as error:
                log.debug("repair waits to be asked again", error=str(error))
            except (UnknownArtifact, DamagedBlob) as error:
                log.error("chunk cannot be repaired", error=str(error))
            except Exception:
                log.exception("repair interrupted")


def _united(*groups: Sequence[Desired]) -> list[Desired]:
    """Each slot's newest among the groups, which were read one after the other."""
    newest: dict[tuple[str, str], Desired] = {}
    for row in (row for group in groups for row in group):
        known = newest.get((row.device, row.slot))
        if known is None or (known.generation, known.issued_ms) < (row.generation, row.issued_ms):
            newest[row.device, row.slot] = row
    return list(newest.values())


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _now_ms() -> int:
    return int(_now_s() * 1000)
