"""What there is to tell: the report of the state, the telemetry of an interval, the status for people on the device."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edge.foundation import clock
from edge.foundation.machine import Machine
from edge.foundation.version import agent_version
from edge.identity.service import DeviceIdentity
from edge.inference.service import Inference
from edge.reporting import rules
from edge.shadow.parts import Challenger
from edge.update.service import Updater
from edge.uplink.outbox import Outbox
from protos import topics
from protos.kit.kinds import Kind
from protos.kit.latency import BUCKETS
from protos.v1.report_pb2 import Report, SlotState
from protos.v1.uplink_pb2 import Telemetry

STATUS_NAMES = {Kind.RESULTS: "outbox", Kind.EVENTS: "events", Kind.TELEMETRY: "telemetry"}
"""What waits of each kind, in the status."""

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class SlotParts:
    """What runs in one slot, and with how many threads."""

    updater: Updater
    inference: Inference
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the agent that are reported on. uplink: state of the results' stream; alarms: for a person.

    slots: by name, the device's main one first. hardware: for people.
    """

    slots: Mapping[str, SlotParts]
    outboxes: Mapping[Kind, Outbox]
    uplink: Callable[[], str]
    alarms: Callable[[], Sequence[str]]
    hardware: str = ""
    challenger: Challenger | None = None
    """To the main slot's champion; None: this agent takes none."""

    @property
    def outbox(self) -> Outbox:
        """Of results."""
        return self.outboxes[Kind.RESULTS]

    @property
    def main(self) -> SlotParts:
        """Of the device's main slot."""
        return next(iter(self.slots.values()))

    @property
    def updater(self) -> Updater:
        """Of the device's main slot."""
        return self.main.updater


class Reporter:
    """Reads the parts; changes nothing."""

    def __init__(self, identity: DeviceIdentity, labels: Mapping[str, str], parts: Parts, folder: Path) -> None:
        self._identity = identity
        self._labels = labels
        self._parts = parts
        self._version = agent_version()
        self._machine = Machine(folder)
        self._counted: tuple[int, ...] = (0,) * BUCKETS
        self._started_ns = time.monotonic_ns()

    def report(self) -> Report:
        """The whole reported state of this moment."""
        return Report(
            device=self._identity.device,
            public_key=self._identity.public_key,
            labels=self._labels,
            agent_version=self._version,
            slots=[*(_state(name, slot) for name, slot in self._parts.slots.items()), *self._challengers()],
            reported_ms=clock.now_ms(),
            uplink=self._parts.uplink(),
            alarms=self._parts.alarms(),
            hardware=self._parts.hardware,
        )

    def _challengers(self) -> list[SlotState]:
        challenger = self._parts.challenger
        if challenger is None or challenger.updater.update.target is None:
            return []
        updater, slot = challenger.updater, topics.shadow_slot(next(iter(self._parts.slots)))
        return [rules.slot_state(slot, updater.update, challenger.slot_notice, updater.running, updater.progress)]

    def telemetry(self, interval_s: float) -> Telemetry:
        """What was measured since the last call, `interval_s` ago."""
        slots, depth, running = self._parts.slots, self._parts.outbox.depth(), self._parts.updater.running
        found = {name: slot.inference.stats() for name, slot in slots.items()}
        stats = rules.together(list(found.values()))
        each = (rules.slot_telemetry(name, found[name], slot.updater.running) for name, slot in slots.items())
        return Telemetry(
            measured_ms=clock.now_ms(),
            interval_s=interval_s,
            inferences=stats.inferences,
            inference_errors=stats.errors,
            latency_p50_us=stats.latency_p50_us,
            latency_p95_us=stats.latency_p95_us,
            outbox_rows=depth.rows,
            outbox_bytes=depth.bytes,
            dropped=depth.dropped,
            resident_bytes=sum(map(_resident_bytes, (os.getpid(), *(slot.inference.pid for slot in slots.values())))),
            model=running.model if running else "",
            version=running.version if running else 0,
            frames_dropped=stats.dropped,
            model_crashes=stats.crashes,
            machine=rules.machine(self._machine.look()),
            latency_counts=self._latency_counts(),
            queued_frames=sum(slot.inference.queued for slot in slots.values()),
            uptime_ms=(time.monotonic_ns() - self._started_ns) // 1_000_000,
            slots=each if len(slots) > 1 else (),
        )

    def _latency_counts(self) -> list[int]:
        """Of the interval."""
        of_slots = [slot.inference.latency_histogram()[0] for slot in self._parts.slots.values()]
        before, self._counted = self._counted, tuple(map(sum, zip(*of_slots, strict=True)))
        return [now - then for now, then in zip(self._counted, before, strict=True)]

    def status(self) -> dict[str, object]:
        """For people on the device, as JSON."""
        main, *others = (_status(slot) for slot in self._parts.slots.values())
        name, *names = self._parts.slots
        return {
            "device": self._identity.device,
            "pid": os.getpid(),
            "agent_version": self._version,
            "uplink": self._parts.uplink(),
            "alarms": list(self._parts.alarms()),
            "hardware": self._parts.hardware,
            "slot": name,
            **main,
            "others": [{"slot": name, **status} for name, status in zip(names, others, strict=True)],
            **{STATUS_NAMES[kind]: asdict(outbox.depth()) for kind, outbox in self._parts.outboxes.items()},
        }


def _state(name: str, slot: SlotParts) -> SlotState:
    updater = slot.updater
    state = rules.slot_state(
        name, updater.update, updater.notice, updater.running, updater.progress, table=updater.table
    )
    state.threads = slot.threads
    return state


def _status(slot: SlotParts) -> dict[str, object]:
    updater = slot.updater
    told = rules.status(updater.update, updater.notice, updater.running, updater.progress, table=updater.table)
    return {**told, "threads": slot.threads}


def _resident_bytes(pid: int | None) -> int:
    try:
        return rules.resident_bytes(Path(f"/proc/{pid}/statm").read_text(), PAGE_BYTES) if pid else 0
    except OSError:
        return 0  # no /proc here, or the process has just ended
