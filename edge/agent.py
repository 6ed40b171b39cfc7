"""The running agent: the rooms put together, their tasks started in order and ended in the reverse order."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import platform
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from edge.delivery import entities as delivery
from edge.delivery.mqtt import Fetcher
from edge.delivery.trust import Trust
from edge.delivery.trust_sources import FromApi, FromBroker, Source
from edge.drift.entities import Limits as DriftLimits
from edge.drift.service import DriftWatch
from edge.foundation import hardware, sd_notify
from edge.foundation.clock import now_ms
from edge.foundation.settings import FRAMES_SOCKET, EdgeSettings
from edge.foundation.shares import Share, shared
from edge.foundation.version import agent_version
from edge.identity.service import DeviceIdentity, read_root
from edge.inference import local as local_ends
from edge.inference import operators
from edge.inference.by_slot import BySlot
from edge.inference.entities import Limits as InferenceLimits
from edge.inference.local import Ends
from edge.inference.rpc import Ports, SocketUnusable, frames_server
from edge.inference.service import Inference
from edge.models.entities import WrongStep
from edge.models.service import ModelStore
from edge.reporting import local, offline
from edge.reporting import mqtt as reporting_mqtt
from edge.reporting.health import Health
from edge.reporting.service import Parts, Reporter, SlotParts, offer_regularly
from edge.samples.entities import SamplesFailed
from edge.samples.rpc import SampleUploads
from edge.samples.service import Sampler
from edge.samples.store import SampleStore
from edge.shadow.parts import Challenger, put_together
from edge.update.memory import Memory
from edge.update.mqtt import DesiredState
from edge.update.one_at_a_time import OneAtATime, Turns
from edge.update.requirements import Facts
from edge.update.service import Updater
from edge.update.steps import Limits, Steps
from edge.uplink.entities import OutboxFailed
from edge.uplink.of_slot import OfSlot
from edge.uplink.outbox import Outbox
from edge.uplink.rpc import Uplink
from protos.kit.differences import Thresholds
from protos.kit.files import remove_leftovers
from protos.kit.keys import KeysFailed
from protos.kit.link import Address, Link
from protos.topics import DEFAULT_SLOT

LOCK_FILE = "agent.lock"
OUTBOX_FILE = "outbox.sqlite"
SAMPLES_FILE = "samples.sqlite"
MODELS_FOLDER = "models"
DOWNLOADS_FOLDER = "downloads"
METADATA_FOLDER = "metadata"
FAREWELL_S = 2.0

log = structlog.get_logger()


class AgentFailed(Exception):
    """The agent cannot start, or had to end. The message says why and what to do."""


class Agent:
    """One device's agent; `run` it once."""

    def __init__(self, settings: EdgeSettings) -> None:
        self._settings = settings

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. Raises AgentFailed."""
        settings = self._settings
        structlog.contextvars.bind_contextvars(device=settings.id)
        try:
            with holding(settings.dir, settings.id), _rooms(settings) as rooms:
                await _work(rooms, settings, stop)
        except (KeysFailed, OutboxFailed, SamplesFailed, SocketUnusable) as error:
            raise AgentFailed(str(error)) from error
        except OSError as error:
            raise AgentFailed(f"data folder {settings.dir} cannot be used: {error}") from error
        log.info("agent ended")


@dataclass(frozen=True, slots=True)
class _Slot:
    """What one of the models that run at once has for itself."""

    name: str
    models: ModelStore
    inference: Inference
    updater: Updater
    desired: DesiredState
    drift: DriftWatch
    share: Share

    def tasks(self) -> dict[str, Coroutine[Any, Any, None]]:
        """Its work, by name."""
        return {
            f"inference {self.name}": self.inference.run(),
            f"updater {self.name}": self.updater.run(),
            f"desired state {self.name}": self.desired.run(),
        }


@dataclass(frozen=True, slots=True)
class _Rooms:
    """All parts, wired. slots: the main one first."""

    slots: tuple[_Slot, ...]
    link: Link
    trust: Trust
    uplink: Uplink
    sampler: Sampler
    reporter: Reporter
    reports: reporting_mqtt.Reports
    challenger: Challenger
    parts: Parts
    health: Health

    @property
    def inference(self) -> BySlot:
        """Of all slots."""
        return BySlot({slot.name: slot.inference for slot in self.slots})


@contextmanager
def holding(folder: Path, device: str) -> Iterator[None]:
    """The data folder is this process's alone within the block. Raises AgentFailed if another agent has it.

    What a kill left half written in it is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(folder) or {"device": "unknown", "pid": "unknown"}
            raise AgentFailed(
                f"another agent (device {holder['device']}, process {holder['pid']}) runs on the data folder {folder}: "
                "end it, or give this one a folder of its own with --dir"
            ) from None
        remove_leftovers(folder)
        file.truncate(0)
        file.write(json.dumps({"device": device, "pid": os.getpid()}))
        file.flush()
        yield


def status(folder: Path) -> dict[str, object]:
    """What the agent of this folder tells; if none runs, what lies in the folder. Raises AgentFailed."""
    try:
        return {"agent_running": True, **local.ask(folder / local.STATUS_SOCKET)}
    except local.NoAnswer:
        pass
    holder = _holder(folder)
    if holder is None:
        raise AgentFailed(f"no agent has run on the data folder {folder} yet: name another one with --dir")
    found = offline.status(folder, folder / MODELS_FOLDER, folder / OUTBOX_FILE)
    return {"agent_running": False, "device": holder["device"], **found}


def last_device(folder: Path) -> str:
    """The id of the agent that has the folder, or had it last; empty: none had."""
    holder = _holder(folder)
    return str(holder["device"]) if holder else ""


def _holder(folder: Path) -> dict[str, object] | None:
    """Device and process of the agent that has the folder, or had it last."""
    try:
        holder = json.loads((folder / LOCK_FILE).read_text())
        return {"device": str(holder["device"]), "pid": int(holder["pid"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def _rooms(settings: EdgeSettings) -> Iterator[_Rooms]:
    identity, root = DeviceIdentity.load(settings.dir, settings.id), read_root(settings.trust)
    with (
        closing(Outbox.open(settings.dir / OUTBOX_FILE, settings.outbox_bytes)) as outbox,
        closing(SampleStore.open(settings.dir / SAMPLES_FILE)) as samples,
    ):
        yield _wired(settings, identity, root, outbox, samples)


def _wired(
    settings: EdgeSettings, identity: DeviceIdentity, root: bytes, outbox: Outbox, samples: SampleStore
) -> _Rooms:
    device = settings.id
    link = Link(Address.parse(settings.broker), f"littoral-{device}", reporting_mqtt.will(device), settings.mqtt)
    trust = _trust(settings, root, link)
    uplink = Uplink(settings.uplink, device, outbox)
    sampler = Sampler(samples, device, settings.samples_bytes, now_ms)
    uplink.spare, sampler.on_kept = SampleUploads(samples, sampler), uplink.nudge
    uplink.rate = settings.uplink_rate
    common = _Common(settings, identity, link, trust, outbox, uplink, sampler, Turns())
    shares = shared(settings.slots, settings.threads, hardware.cores())
    slots = tuple(_slot(name, share, common) for name, share in shares.items())
    main = slots[0]
    challenger = put_together(
        settings,
        main.name,
        link=link,
        trust=trust,
        identity=identity,
        beside=main.models,
        offer=uplink.offer,
        turns=common.turns,
        sample=lambda frames, champion, _: sampler.keep(frames, champion),
    )
    main.inference.on_answered(challenger.shadow.take)
    parts = _parts(slots, challenger, common)
    reporter = Reporter(identity, settings.labels, parts, settings.dir)
    reports = reporting_mqtt.Reports(link, device, reporter.report, settings.report_s)
    for updater in (*(slot.updater for slot in slots), challenger.updater):
        updater.on_change = reports.changed
    return _Rooms(
        slots=slots,
        link=link,
        trust=trust,
        uplink=uplink,
        sampler=sampler,
        reporter=reporter,
        reports=reports,
        challenger=challenger,
        parts=parts,
        health=Health([slot.inference for slot in slots]),
    )


@dataclass(frozen=True, slots=True)
class _Common:
    """What the slots of a device share."""

    settings: EdgeSettings
    identity: DeviceIdentity
    link: Link
    trust: Trust
    outbox: Outbox
    uplink: Uplink
    sampler: Sampler
    turns: Turns


def _parts(slots: Sequence[_Slot], challenger: Challenger, common: _Common) -> Parts:
    """What is reported on."""
    uplink, trust, drifts = common.uplink, common.trust, [slot.drift for slot in slots]
    return Parts(
        {slot.name: SlotParts(slot.updater, slot.inference, slot.share.threads) for slot in slots},
        common.outbox,
        lambda: uplink.state.value,
        lambda: (*trust.alarms, *(alarm for drift in drifts for alarm in drift.alarms)),
        hardware.described(),
        challenger,
    )


def _slot(name: str, share: Share, common: _Common) -> _Slot:
    settings, link, trust = common.settings, common.link, common.trust
    results = common.outbox if name == DEFAULT_SLOT else OfSlot(common.outbox, name)
    inference = Inference(results, InferenceLimits(settings.batch_frames, settings.latency_ms))
    inference.on_answered(common.sampler.take)
    downloads = DOWNLOADS_FOLDER if name == DEFAULT_SLOT else f"{DOWNLOADS_FOLDER}-{name}"
    pace = delivery.Limits(settings.delivery_rate, settings.delivery_jitter_s)
    fetcher = Fetcher(link, trust, settings.dir / downloads, pace)
    models = ModelStore.open(settings.dir / MODELS_FOLDER, name)
    steps = Steps(
        OneAtATime(fetcher, common.turns),
        models,
        inference,
        Limits(settings.trial_s, settings.golden_timeout_s, share.threads, share.nice, settings.measured_files),
        Facts(platform.machine(), agent_version(), operators.known(), hardware.described()),
    )
    updater = Updater(settings.id, Memory(settings.dir, name), steps, common.identity.sign, now_ms)
    return _Slot(
        name=name,
        models=models,
        inference=inference,
        updater=updater,
        desired=DesiredState(link, updater, settings.id, name, trust),
        drift=_drift(settings, name, inference, common.uplink),
        share=share,
    )


def _drift(settings: EdgeSettings, slot: str, inference: Inference, uplink: Uplink) -> DriftWatch:
    thresholds = Thresholds(settings.drift_psi, settings.drift_p, settings.drift_shift)
    drift = DriftWatch(slot, DriftLimits(settings.drift_s, thresholds), uplink.offer)
    if settings.drift_s:
        inference.on_answered(drift.take)
    return drift


def _trust(settings: EdgeSettings, root: bytes, link: Link) -> Trust:
    sources: list[Source] = [FromBroker(link)]
    if settings.api:
        sources.append(FromApi(settings.api))
    return Trust(settings.dir / METADATA_FOLDER, root, sources, settings.metadata_s, now_ms)


async def _work(rooms: _Rooms, settings: EdgeSettings, stop: asyncio.Event) -> None:
    """Until `stop`, or until a task fails, which ends all others and is raised."""
    frames = settings.dir / FRAMES_SOCKET
    await asyncio.gather(*(slot.updater.serve() for slot in rooms.slots))
    for slot in rooms.slots:
        await slot.desired.listen()
    await rooms.challenger.desired.listen()
    async with AsyncExitStack() as doors:
        ports = Ports(settings.infer_http_port, settings.infer_grpc_port)
        await doors.enter_async_context(frames_server(rooms.inference, frames, ports))
        async with asyncio.TaskGroup() as group:
            ends = local_ends.ends(settings, rooms.inference)
            tasks = [group.create_task(work, name=name) for name, work in _tasks(rooms, settings, ends).items()]
            log.info("agent ready", frames=str(frames), broker=settings.broker, uplink=settings.uplink)
            sd_notify.notify(sd_notify.READY)
            await stop.wait()
            sd_notify.notify(sd_notify.STOPPING)
            log.info("agent stops")
            await doors.aclose()  # no new frames; what is not settled its source hands in again
            await _farewell(rooms.reports)
            for task in tasks:
                task.cancel()


def _tasks(rooms: _Rooms, settings: EdgeSettings, ends: Ends) -> dict[str, Coroutine[Any, Any, None]]:
    telemetry = offer_regularly(rooms.reporter, rooms.uplink.offer_telemetry, settings.telemetry_s)
    return {
        **ends.tasks,
        **rooms.challenger.tasks(),
        **({f"drift {slot.name}": slot.drift.run() for slot in rooms.slots} if settings.drift_s else {}),
        **{name: work for slot in rooms.slots for name, work in slot.tasks().items()},
        "link": rooms.link.run(),
        "trust": rooms.trust.run(),
        "uplink": rooms.uplink.run(),
        "samples": rooms.sampler.run(),
        "reports": rooms.reports.run(),
        "telemetry": telemetry,
        "health": rooms.health.run(),
        **_monitor(rooms, settings.monitor, ends),
        "status": local.serve(settings.dir / local.STATUS_SOCKET, rooms.reporter.status),
        "orders": local.take_orders(settings.dir / local.ORDERS_SOCKET, _orders(rooms)),
    }


def _monitor(rooms: _Rooms, address: str, ends: Ends) -> dict[str, Coroutine[Any, Any, None]]:
    if not address:
        return {}
    from edge.reporting import monitor  # noqa: PLC0415 - its library takes memory that a device without it keeps

    host, _, port = address.rpartition(":")
    return {"monitor": monitor.serve(host.strip("[]"), int(port), rooms.health, rooms.parts, ends.sinks)}


def _orders(rooms: _Rooms) -> dict[str, local.Order]:
    """What a person on the device may have done, by its name."""

    async def roll_back(slot: _Slot) -> Mapping[str, object]:
        try:
            await slot.updater.recall()
        except WrongStep as error:
            raise local.Refused(str(error)) from error
        return rooms.reporter.status()

    return {f"rollback {slot.name}": partial(roll_back, slot) for slot in rooms.slots}


async def _farewell(reports: reporting_mqtt.Reports) -> None:
    try:
        async with asyncio.timeout(FAREWELL_S):
            await reports.farewell()
    except TimeoutError:
        log.warning("the broker does not answer; it will publish this device's will")
