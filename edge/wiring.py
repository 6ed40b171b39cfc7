"""The rooms put together: what each slot has for itself, and what all slots of a device share."""

from __future__ import annotations

import platform
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from edge.delivery import entities as delivery
from edge.delivery.mqtt import Fetcher
from edge.delivery.trust import Trust
from edge.delivery.trust_sources import FromApi, FromBroker, Source
from edge.drift.entities import Limits as DriftLimits
from edge.drift.service import DriftWatch
from edge.events.service import Journal
from edge.foundation import hardware
from edge.foundation.clock import now_ms
from edge.foundation.events import Event, Severity, Tell
from edge.foundation.settings import EdgeSettings
from edge.foundation.shares import Share, shared
from edge.foundation.version import agent_version
from edge.identity.service import DeviceIdentity, read_root
from edge.inference import operators
from edge.inference.by_slot import BySlot
from edge.inference.entities import Limits as InferenceLimits
from edge.inference.service import Inference
from edge.models.service import ModelStore
from edge.reporting import mqtt as reporting_mqtt
from edge.reporting.health import Health
from edge.reporting.service import Parts, Reporter, SlotParts
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
from protos.kit.kinds import Kind
from protos.kit.link import Address, Link
from protos.topics import DEFAULT_SLOT

OUTBOX_FILES = {
    Kind.RESULTS: "outbox.sqlite",
    Kind.EVENTS: "events.sqlite",
    Kind.TELEMETRY: "telemetry.sqlite",
}
MEMORY_BYTES = 1024 * 1024
"""Of an outbox that has to do without its file."""

SAMPLES_FILE = "samples.sqlite"
MODELS_FOLDER = "models"
DOWNLOADS_FOLDER = "downloads"
METADATA_FOLDER = "metadata"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Slot:
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
class Rooms:
    """All parts, wired. slots: the main one first."""

    slots: tuple[Slot, ...]
    link: Link
    trust: Trust
    uplink: Uplink
    journal: Journal
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
def rooms(settings: EdgeSettings) -> Iterator[Rooms]:
    """All parts of a device with these settings, open within the block.

    Raises KeysFailed, OutboxFailed, SamplesFailed or OSError.
    """
    identity, root = DeviceIdentity.load(settings.dir, settings.id), read_root(settings.trust)
    bounds = outbox_bounds(settings)
    with ExitStack() as files:
        outboxes = {
            kind: files.enter_context(closing(_opened(kind, settings.dir / name, bounds[kind])))
            for kind, name in OUTBOX_FILES.items()
        }
        samples = files.enter_context(closing(SampleStore.open(settings.dir / SAMPLES_FILE)))
        yield _wired(settings, identity, root, outboxes, samples)


def outbox_bounds(settings: EdgeSettings) -> dict[Kind, int]:
    """The most bytes that may wait, by kind."""
    return {
        Kind.RESULTS: settings.outbox_bytes,
        Kind.EVENTS: settings.events_bytes,
        Kind.TELEMETRY: settings.telemetry_bytes,
    }


def _wired(
    settings: EdgeSettings,
    identity: DeviceIdentity,
    root: bytes,
    outboxes: Mapping[Kind, Outbox],
    samples: SampleStore,
) -> Rooms:
    device, journal = settings.id, Journal(outboxes[Kind.EVENTS], now_ms)
    link = Link(Address.parse(settings.broker), f"littoral-{device}", reporting_mqtt.will(device), settings.mqtt)
    trust = _trust(settings, root, link)
    beside: dict[Kind, Outbox] = {kind: one for kind, one in outboxes.items() if kind is not Kind.RESULTS}
    uplink = Uplink(settings.uplink, device, outboxes[Kind.RESULTS], beside=beside)
    uplink.tell = journal.tell
    sampler = Sampler(samples, device, settings.samples_bytes, now_ms)
    uplink.spare, sampler.on_kept = SampleUploads(samples, sampler), uplink.nudge
    uplink.rate = settings.uplink_rate
    common = _Common(settings, identity, link, trust, outboxes, uplink, sampler, Turns(), journal.tell)
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
        tell=journal.tell,
    )
    main.inference.on_answered(challenger.shadow.take)
    parts = _parts(slots, challenger, common)
    reporter = Reporter(identity, settings.labels, parts, settings.dir)
    reports = reporting_mqtt.Reports(link, device, reporter.report, settings.report_s)
    for updater in (*(slot.updater for slot in slots), challenger.updater):
        updater.on_change = reports.changed
    _tell_of_beginnings(outboxes, samples, journal.tell)
    return Rooms(
        slots=slots,
        link=link,
        trust=trust,
        uplink=uplink,
        journal=journal,
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
    outboxes: Mapping[Kind, Outbox]
    uplink: Uplink
    sampler: Sampler
    turns: Turns
    tell: Tell


def _parts(slots: Sequence[Slot], challenger: Challenger, common: _Common) -> Parts:
    """What is reported on."""
    uplink, trust, drifts = common.uplink, common.trust, [slot.drift for slot in slots]
    return Parts(
        {slot.name: SlotParts(slot.updater, slot.inference, slot.share.threads) for slot in slots},
        common.outboxes,
        lambda: uplink.state.value,
        lambda: (*trust.alarms, *(alarm for drift in drifts for alarm in drift.alarms)),
        hardware.described(),
        challenger,
    )


def _slot(name: str, share: Share, common: _Common) -> Slot:
    settings, link, trust = common.settings, common.link, common.trust
    outbox = common.outboxes[Kind.RESULTS]
    results = outbox if name == DEFAULT_SLOT else OfSlot(outbox, name)
    inference = Inference(results, InferenceLimits(settings.batch_frames, settings.latency_ms))
    inference.tell = lambda event: common.tell(replace(event, slot=name))
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
    updater.tell = common.tell
    return Slot(
        name=name,
        models=models,
        inference=inference,
        updater=updater,
        desired=DesiredState(link, updater, settings.id, name, trust),
        drift=_drift(settings, name, inference, common.uplink),
        share=share,
    )


def _opened(kind: Kind, path: Path, max_bytes: int) -> Outbox:
    """Results are worth that an agent without a place for them does not start; what is told beside them is not."""
    try:
        return Outbox.open(path, max_bytes)
    except OutboxFailed as error:
        if kind is Kind.RESULTS:
            raise
        log.error("until the next start this outbox is kept in memory", kind=str(kind), error=str(error))
        outbox = Outbox.in_memory(path.name, min(max_bytes, MEMORY_BYTES))
        outbox.begun_anew = f"its file cannot be used, until the next start it is kept in memory: {error}"
        return outbox


def _tell_of_beginnings(outboxes: Mapping[Kind, Outbox], samples: SampleStore, tell: Tell) -> None:
    """What could not go on with what it held before."""
    for kind, outbox in outboxes.items():
        if outbox.begun_anew:
            text = f"the outbox of {kind} is begun anew without what it held: {outbox.begun_anew}"
            tell(Event("uplink.outbox_begun_anew", text, Severity.ERROR, about=str(kind)))
    if samples.damage:
        text = f"the samples were damaged, and are begun anew without those that waited: {samples.damage}"
        tell(Event("samples.damaged", text, Severity.ERROR))


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
