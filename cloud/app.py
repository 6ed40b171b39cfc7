"""The running cloud: the rooms put together, the roles started in order and ended in the reverse order."""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from fastapi import FastAPI
from prometheus_client import REGISTRY

from cloud.delivery.metadata import MetadataPublisher
from cloud.delivery.mqtt import Publisher
from cloud.drift import routes as drift_routes
from cloud.drift.service import Drifts
from cloud.events import routes as events_routes
from cloud.events.service import Events
from cloud.fleet import routes as fleet_routes
from cloud.fleet import telemetry_routes
from cloud.fleet.inbox import TelemetryInbox
from cloud.fleet.mqtt import FleetMessages
from cloud.fleet.service import Fleet
from cloud.fleet.telemetry import TelemetryHistory
from cloud.foundation.broker import BrokerFailed, embedded_broker
from cloud.foundation.database import Database, DatabaseFailed
from cloud.foundation.metrics import BROKER_CONNECTED
from cloud.foundation.pulse import Pulse
from cloud.foundation.retention import Kept, Retention
from cloud.foundation.settings import CloudSettings
from cloud.http_server import HttpServer, listening
from cloud.identity import routes as identity_routes
from cloud.identity.entities import DIRECTOR
from cloud.identity.service import Identity
from cloud.identity.trust import FleetTrust
from cloud.registry import registration_routes
from cloud.registry import routes as registry_routes
from cloud.registry.entities import UnknownModel
from cloud.registry.kept import kept
from cloud.registry.service import Registry
from cloud.rollouts import routes as rollouts_routes
from cloud.rollouts.controller import Controller
from cloud.rollouts.metrics import RolloutStates
from cloud.rollouts.service import Rollouts
from cloud.routes import create_api
from cloud.samples import kept as samples_kept
from cloud.samples import routes as samples_routes
from cloud.samples import store_links
from cloud.samples.retention import SampleRetention
from cloud.samples.rpc import SampleStreams
from cloud.samples.service import Samples
from cloud.shadow import routes as shadow_routes
from cloud.shadow.service import Shadows
from cloud.uplink import consumer_routes, quarantine_routes, query_routes
from cloud.uplink import routes as uplink_routes
from cloud.uplink.consumers import Consumers
from cloud.uplink.entities import KnownVersion
from cloud.uplink.merge import Merger
from cloud.uplink.quarantine import Quarantine
from cloud.uplink.queries import Queries
from cloud.uplink.quotas import Quota, Quotas
from cloud.uplink.reading import Takers
from cloud.uplink.rpc import UplinkService
from cloud.uplink.server import CannotListen, IngestServer
from cloud.uplink.service import Ingest
from protos.kit.differences import Thresholds
from protos.kit.keys import KeysFailed
from protos.kit.kinds import Kind
from protos.kit.link import Address, Link
from protos.v1.uplink_pb2 import UplinkMessage

ROLES = frozenset({"api", "ingest", "publisher", "controller"})
SIGNS = {"api": frozenset({"manifest", DIRECTOR}), "controller": frozenset({DIRECTOR})}
"""Which keys a role signs with. The API: what is registered, and challengers, who begin at once."""
LISTS = frozenset({"api", "publisher"})
"""Roles that sign the fleet's metadata: models' names, snapshot and timestamp."""
DRAIN_S = 10.0
"""All parts together have this long to end in order; what then still runs is cut off."""
STREAMS_S = 4.0

log = structlog.get_logger()


class StartFailed(Exception):
    """The cloud cannot run with these settings here; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Rooms:
    """The services of one process."""

    database: Database
    trust: FleetTrust
    registry: Registry
    fleet: Fleet
    rollouts: Rollouts
    ingest: Ingest
    quarantine: Quarantine
    events: Events
    telemetry: TelemetryHistory
    drifts: Drifts
    shadows: Shadows
    samples: Samples


@contextmanager
def compose(settings: CloudSettings, roles: frozenset[str] = ROLES) -> Iterator[Rooms]:
    """All services on the settings' database and folder, both made if they are missing. Raises StartFailed.

    roles: what this process is for; it needs their keys and no others.
    """
    try:
        settings.dir.mkdir(parents=True, exist_ok=True)
        database = Database(settings.database_url)
        database.create()
        signs = frozenset[str]().union(*(SIGNS.get(role, ()) for role in roles))
        identity = Identity(settings.dir, settings.signing_keys, signs)
        trust = FleetTrust.of(settings, database, identity)
        blobs, patched = kept(settings, database), settings.patched_versions
        registry = Registry(database, blobs, identity.sign, trust.list_version, patched_versions=patched)
        if roles & LISTS:
            trust.prepare(registry.registered, _now_ms())
        else:
            trust.follow()
    except (DatabaseFailed, KeysFailed, OSError) as error:
        raise StartFailed(str(error)) from error
    fleet = Fleet(database)
    rollouts = Rollouts(database, registry, fleet, identity.sign, settings.deployment_days)
    thresholds = Thresholds(settings.drift_psi, settings.drift_p, settings.drift_shift)
    drifts = Drifts(database, registry, thresholds)
    shadows = Shadows(database, registry, fleet, identity.sign, settings.deployment_days)
    events, telemetry = Events(database), TelemetryHistory(database)
    known = known_versions(registry)
    takers: Takers = {Kind.EVENTS: events, Kind.TELEMETRY: telemetry}
    ingest, quarantine = Ingest(database, known, takers), Quarantine(database, known, takers)
    samples = Samples(database, registry, fleet, *samples_kept.kept(settings, database))
    try:
        yield Rooms(
            database,
            trust,
            registry,
            fleet,
            rollouts,
            ingest,
            quarantine,
            events,
            telemetry,
            drifts,
            shadows,
            samples,
        )
    finally:
        database.close()


def known_versions(registry: Registry) -> Callable[[bytes], KnownVersion | None]:
    """What the uplink asks of the registry. A version never changes, so each is read once; an unknown one may come."""
    found: dict[bytes, KnownVersion] = {}

    def known(manifest_digest: bytes) -> KnownVersion | None:
        if manifest_digest not in found:
            try:
                registered = registry.by_digest(manifest_digest)
            except UnknownModel:
                return None
            classes = len(registered.parsed().labels)
            found[manifest_digest] = KnownVersion(registered.model, registered.version, classes)
        return found[manifest_digest]

    return known


async def serve(settings: CloudSettings, roles: frozenset[str] = ROLES) -> None:
    """Run the given roles until SIGTERM or SIGINT, then end them without losing anything. Raises StartFailed."""
    try:
        with _until_signalled() as stop, compose(settings, roles) as rooms:
            await _Process(settings, roles, rooms, stop).run()
    except BaseExceptionGroup as group:
        if failed := group.subgroup(StartFailed):
            raise failed.exceptions[0] from None
        raise


class _Process:
    """This process's roles. Each `_start_…` puts what ends it on the stack."""

    def __init__(self, settings: CloudSettings, roles: frozenset[str], rooms: Rooms, stop: asyncio.Event) -> None:
        self._settings = settings
        self._roles = roles
        self._rooms = rooms
        self._stop = stop
        self._samples = SampleStreams(rooms.samples)
        self._pulse = Pulse(rooms.database)
        self._telemetry = TelemetryInbox(rooms.fleet)
        self._link: Link | None = None
        self._tasks = asyncio.TaskGroup()
        self._running: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()
        self._addresses: dict[str, str] = {}

    async def run(self) -> None:
        async with self._tasks, self._stack:
            await self._start()
            log.info("cloud ready", roles=sorted(self._roles), **self._addresses)
            await self._stop.wait()
            log.info("cloud stops")
            await self._end()
        log.info("cloud stopped")

    async def _start(self) -> None:
        settings = self._settings
        try:
            # Addresses are claimed before anything runs: at a taken one nothing has to be ended again.
            api = self._listen("the API", settings.api_port, "--api-port") if "api" in self._roles else None
            metrics = self._listen("/metrics", port, "--metrics-port") if (port := settings.metrics_port) else None
            ingest = self._bind_ingest() if "ingest" in self._roles else None
            self._background("pulse", self._pulse.run())
            broker = await self._start_broker()
            if self._roles & {"publisher", "controller"}:
                self._start_link(broker)
            if ingest:
                await self._start_ingest(*ingest)
            if metrics:
                await self._start_http("metrics", metrics, create_api([], self._readiness))
            if api:
                await self._start_http("api", api, self._api())
        except (BrokerFailed, CannotListen, OSError) as error:
            raise StartFailed(str(error)) from error

    async def _end(self) -> None:
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._stack.aclose()
        except TimeoutError:
            log.error("cloud did not stop in time: what still runs is cut off", seconds=DRAIN_S)
            for task in self._running:
                task.cancel()

    async def _start_broker(self) -> Address:
        settings = self._settings
        if settings.broker:
            return Address.parse(settings.broker)
        if "publisher" not in self._roles:
            return Address(settings.host, settings.broker_port)
        broker = embedded_broker(settings.broker_kind, settings.host, settings.broker_port, settings.dir)
        address = await self._stack.enter_async_context(broker)
        self._addresses["broker"] = str(address)
        return address

    def _start_link(self, broker: Address) -> None:
        name = "all" if self._roles == ROLES else "-".join(sorted(self._roles))
        self._link = link = Link(broker, f"littoral-cloud-{name}-{secrets.token_hex(4)}", mqtt=self._settings.mqtt)
        self._background("link", link.run())
        BROKER_CONNECTED.set_function(link.connected.is_set)
        rooms = self._rooms
        if "controller" in self._roles:
            self._background("fleet messages", FleetMessages(link, rooms.fleet).run())
            controller = Controller(rooms.rollouts)
            self._background("controller", controller.run())
            self._count_rollouts()
            if self._settings.cluster:
                self._follow_cluster(controller)
        if "publisher" in self._roles:
            self._background("metadata", MetadataPublisher(link, rooms.trust).run())
            self._background("publisher", Publisher(link, rooms.registry, rooms.fleet).run())

    def _follow_cluster(self, controller: Controller) -> None:
        from cloud.cluster.entities import Workshop  # noqa: PLC0415 - 50 MB that only a cluster's controller needs
        from cloud.cluster.operator import Operator  # noqa: PLC0415

        settings, rooms = self._settings, self._rooms
        workshop = Workshop(settings.training_image, settings.training_account, settings.api, settings.training_token)
        operator = Operator(rooms.rollouts, rooms.fleet, workshop, settings.cluster_namespace)
        controller.listeners.append(operator.lead)
        self._background("cluster", operator.run())

    def _count_rollouts(self) -> None:
        states = RolloutStates(self._rooms.rollouts.counts)
        REGISTRY.register(states)
        self._stack.callback(REGISTRY.unregister, states)

    def _bind_ingest(self) -> tuple[IngestServer, Merger]:
        settings, ingest = self._settings, self._rooms.ingest
        merger = Merger(ingest.commit, rows=settings.ingest_rows, wait_s=settings.ingest_ms / 1000)
        service = UplinkService(ingest, merger, self._telemetry.put, partial(_take_watched, self._rooms))
        service.samples = self._samples
        service.quotas = Quotas(Quota(settings.device_rows_s, settings.device_bytes_s))
        server = IngestServer(service)
        server.bind(settings.host, settings.ingest_port)
        return server, merger

    async def _start_ingest(self, server: IngestServer, merger: Merger) -> None:
        await server.start()
        self._pulse.listeners.append(server.serving)
        self._background("telemetry", self._telemetry.run())
        self._background("retention", Retention(_kept(self._rooms, self._settings)).run())
        samples = SampleRetention(self._rooms.samples, self._settings.sample_days, self._settings.sample_bytes)
        self._background("retention of samples", samples.run())
        self._background("policies for samples", self._samples.run())
        merging = self._task("merger", merger.run())

        async def drain() -> None:
            await server.stop(STREAMS_S)
            merger.close()
            await asyncio.wait({merging})

        self._stack.push_async_callback(drain)
        self._addresses["ingest"] = f"{self._settings.host}:{self._settings.ingest_port}"

    def _listen(self, what: str, port: int, flag: str) -> socket.socket:
        host = self._settings.host
        try:
            return self._stack.enter_context(listening(host, port))
        except OSError as error:
            raise StartFailed(
                f"{what} cannot listen on {host}:{port}: {error.strerror}. Choose another port with {flag}"
            ) from error

    async def _start_http(self, name: str, listener: socket.socket, api: FastAPI) -> None:
        server = HttpServer(api)
        serving = self._task(name, server.serve([listener]))

        async def drain() -> None:
            server.should_exit = True
            await asyncio.wait({serving})

        self._stack.push_async_callback(drain)
        await server.accepting.wait()
        self._addresses[name] = f"http://{self._settings.host}:{listener.getsockname()[1]}"

    def _api(self) -> FastAPI:
        rooms = self._rooms
        queries = Queries(rooms.database, store_links.of_frames)
        routers = [
            identity_routes.router(rooms.trust),
            registry_routes.router(rooms.registry),
            registration_routes.router(rooms.registry, rooms.trust.check_delegated),
            fleet_routes.router(rooms.fleet),
            telemetry_routes.router(rooms.fleet, rooms.telemetry),
            events_routes.router(rooms.events),
            rollouts_routes.router(rooms.rollouts),
            uplink_routes.router(rooms.ingest),
            quarantine_routes.router(rooms.quarantine),
            query_routes.router(queries),
            consumer_routes.router(Consumers(rooms.database, store_links.of_frames)),
            drift_routes.router(rooms.drifts),
            shadow_routes.router(rooms.shadows),
            samples_routes.router(rooms.samples, queries),
        ]
        return create_api(
            routers, self._readiness, streamed=[registration_routes.PREFIX], token=self._settings.api_token
        )

    def _readiness(self) -> dict[str, bool]:
        parts = {"database": self._pulse.alive, "serving": not self._stop.is_set()}
        return parts | ({"broker": self._link.connected.is_set()} if self._link else {})

    def _task(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` beside the rest; if it fails, so does the process."""
        task = self._tasks.create_task(work, name=name)
        self._running.append(task)
        return task

    def _background(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run `work`, which never ends by itself, until it is cancelled at the end."""
        task = self._task(name, work)

        async def end() -> None:
            task.cancel()
            await asyncio.wait({task})

        self._stack.push_async_callback(end)


@contextmanager
def _until_signalled() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _take_watched(rooms: Rooms, device: str, message: UplinkMessage) -> None:
    if message.HasField("drift"):
        rooms.drifts.take(device, message.drift, _now_ms())
    else:
        rooms.shadows.take(device, message.comparison, _now_ms())


def _kept(rooms: Rooms, settings: CloudSettings) -> Iterable[Kept]:
    ingest = rooms.ingest
    return (
        Kept("results", settings.result_days, ingest.expire),
        Kept("aggregates", settings.aggregate_days, ingest.expire_account),
        Kept("quarantine", settings.quarantine_days, ingest.expire_quarantine),
        Kept("events", settings.event_days, partial(ingest.expire_kind, Kind.EVENTS)),
        Kept("telemetry", settings.telemetry_days, partial(ingest.expire_kind, Kind.TELEMETRY)),
        Kept("drift by hour", settings.drift_days, rooms.drifts.expire),
    )


def _now_ms() -> int:
    return int(time.time() * 1000)
