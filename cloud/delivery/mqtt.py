"""The publisher keeps on the broker what devices need: what the database says, whatever the broker remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from cloud.delivery.entities import BadRequest, Bundle
from cloud.delivery.rules import Repairs, Session, read_request
from cloud.delivery.window import in_window
from cloud.fleet.entities import Desired
from cloud.fleet.service import Fleet
from cloud.registry.entities import DamagedBlob, ModelVersion, UnknownArtifact, UnknownModel, artifacts
from cloud.registry.service import Registry
from protos import topics
from protos.kit.link import Link, Offline

POLL_S = 0.2
REVIEW_S = 2.0
"""Between two looks at all that is unanswered; in between only at what is new."""
REPAIR_S = 0.1
"""How long requests for lost chunks are gathered before they are answered together."""
RETRY_S = 1.0
WINDOW = 16
"""Messages that may wait for the broker's acknowledgement: 1 MB of chunks."""
MARKED_AT_ONCE = 500
ALL_MANIFESTS = f"{topics.ROOT}/manifests/+"
MAX_SEEN = 10_000
"""Manifests on the broker that are remembered; whoever fills it with others cannot fill this process."""

log = structlog.get_logger()


class Publisher:
    """Publishes manifests, chunks and desired states, and clears what nobody needs. The link is run by its owner."""

    def __init__(self, link: Link, registry: Registry, fleet: Fleet) -> None:
        self._link = link
        self._registry = registry
        self._fleet = fleet
        self._session = Session()
        self._repairs = Repairs()
        self._asked = asyncio.Event()
        self._seen: set[bytes] = set()
        self._reviewed_s = float("-inf")
        self._clearing = asyncio.Lock()

    async def run(self) -> None:
        """Publish until cancelled."""
        self._link.on_connect(self._begin)
        await self._link.subscribe(self._on_request, topics.ALL_REPAIR)
        await self._link.subscribe(self._on_manifest, ALL_MANIFESTS)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._deliver(), name="deliver")
            tasks.create_task(self._repair(), name="repair")

    async def _begin(self) -> None:
        self._session = Session()
        self._reviewed_s = float("-inf")

    async def _deliver(self) -> None:
        while True:
            await self._link.connected.wait()
            try:
                await self._pass()
            except Offline as error:
                log.info("delivery waits for the broker", error=str(error))
                await asyncio.sleep(POLL_S)
            except Exception:
                log.exception("delivery interrupted")
                await asyncio.sleep(RETRY_S)
            await asyncio.sleep(POLL_S)

    async def _pass(self) -> None:
        """Bring the broker to what the database says: all of it from time to time, what is new always."""
        session, now_s = self._session, _now_s()
        wanted = await asyncio.to_thread(self._fleet.unpublished)
        if now_s - self._reviewed_s >= REVIEW_S:
            unanswered = await asyncio.to_thread(self._fleet.unanswered)
            await self._publish(session, _united(unanswered, wanted))
            await self._find_leftovers(session)
            await self._clear(session, {row.manifest for row in unanswered})
            self._reviewed_s = now_s
        elif wanted:
            await self._publish(session, wanted)

    async def _publish(self, session: Session, wanted: Sequence[Desired]) -> None:
        # What needs nothing more goes out first: an order to go back never waits for a large artifact.
        await self._tell(session, wanted)
        for manifest in session.missing(wanted, _now_ms()):
            try:
                await self._bring(session, manifest)
            except (UnknownModel, UnknownArtifact, DamagedBlob) as error:
                session.failed(manifest, _now_ms())
                log.error("model cannot be delivered", manifest=manifest.hex(), error=str(error))
            await self._tell(session, [row for row in wanted if row.manifest == manifest])

    async def _bring(self, session: Session, manifest: bytes) -> None:
        """Publish a bundle: the manifest first, so that what a crash leaves half done is found again."""
        version, bundle = await self._bundle(manifest)
        new = session.begun(bundle, _now_ms())
        chunks = [(artifact, index) for artifact in new for index in range(bundle.artifacts[artifact])]
        log.info("publishing model", model=version.model, version=version.version, chunks=len(chunks))
        await self._say(session, topics.manifest(manifest), version.signed)
        await in_window(WINDOW, lambda chunk: self._say_chunk(session, *chunk), chunks)
        session.completed(manifest)

    async def _bundle(self, manifest: bytes) -> tuple[ModelVersion, Bundle]:
        version = await asyncio.to_thread(self._registry.by_digest, manifest)
        counts = {artifact.digest: len(artifact.chunks) for artifact in artifacts(version.parsed())}
        return version, Bundle(manifest, counts)

    async def _tell(self, session: Session, wanted: Sequence[Desired]) -> None:
        """Publish the desired states that are due."""
        due = session.due(wanted)
        for start in range(0, len(due), MARKED_AT_ONCE):
            some = due[start : start + MARKED_AT_ONCE]
            await in_window(WINDOW, lambda row: self._say_desired(session, row), some)
            await asyncio.to_thread(self._fleet.mark_published, some)

    async def _find_leftovers(self, session: Session) -> None:
        """What an earlier connection or run of this program left on the broker is cleared like the rest."""
        for manifest in [manifest for manifest in self._seen if not session.knows(manifest)]:
            try:
                _, bundle = await self._bundle(manifest)
                session.found(bundle, _now_ms())
            except UnknownModel:
                self._seen.discard(manifest)  # not ours to clear

    async def _clear(self, session: Session, needed: set[bytes]) -> None:
        async with self._clearing:
            for manifest in session.stale(needed, _now_ms()):
                dropped = session.dropped(manifest)
                chunks = [(artifact, index) for artifact, count in dropped.items() for index in range(count)]
                await in_window(WINDOW, lambda chunk: self._say(session, topics.chunk(*chunk), b""), chunks)
                await self._say(session, topics.manifest(manifest), b"")
                log.info("model cleared from the broker", manifest=manifest.hex(), chunks=len(chunks))

    async def _say_desired(self, session: Session, row: Desired) -> None:
        await self._say(session, topics.desired(row.device, row.slot), row.signed)
        session.told(row)

    async def _say_chunk(self, session: Session, artifact: bytes, index: int) -> None:
        data = await asyncio.to_thread(self._registry.chunk, artifact, index)
        await self._say(session, topics.chunk(artifact, index), data)

    async def _say(self, session: Session, topic: str, payload: bytes) -> None:
        """Publish, retained, on the connection that the session is of."""
        if session is not self._session:
            raise Offline("another connection began")
        await self._link.publish(topic, payload, retain=True)

    def _on_manifest(self, topic: str, payload: bytes) -> None:
        """What is on the broker, from this connection or an earlier one."""
        manifest = bytes.fromhex(topic.rpartition("/")[2])
        if not payload:
            self._seen.discard(manifest)
        elif len(self._seen) < MAX_SEEN:
            self._seen.add(manifest)

    def _on_request(self, topic: str, payload: bytes) -> None:
        try:
            artifact = topics.artifact_of(topic)
            missing = read_request(artifact, payload, self._session.chunks(artifact))
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
            try:
                await self._send_again(self._session, chunks)
            except Offline as error:
                log.debug("repair waits to be asked again", error=str(error))
            except (UnknownArtifact, DamagedBlob) as error:
                log.error("chunk cannot be repaired", error=str(error))
            except Exception:
                log.exception("repair interrupted")

    async def _send_again(self, session: Session, chunks: list[tuple[bytes, int]]) -> None:
        """Retained, since the broker has lost them; never at the same time as something is cleared."""
        async with self._clearing:
            held = [(artifact, index) for artifact, index in chunks if index < session.chunks(artifact)]
            if held:
                log.info("sending lost chunks again", chunks=len(held))
            await in_window(WINDOW, lambda chunk: self._say_chunk(session, *chunk), held)


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
