"""What there is to tell: the report of the state, the telemetry of an interval, the status for people on the device."""

from __future__ import annotations

import asyncio
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
from edge.update.service import Updater
from edge.uplink.outbox import Outbox
from protos.kit.latency import BUCKETS
from protos.v1.report_pb2 import Report
from protos.v1.uplink_pb2 import Telemetry

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the agent that are reported on. uplink: state of the results' stream; alarms: for a person."""

    updater: Updater
    inference: Inference
    outbox: Outbox
    uplink: Callable[[], str]
    alarms: Callable[[], Sequence[str]]


class Reporter:
    """Reads the parts; changes nothing."""

    def __init__(
        self, identity: DeviceIdentity, labels: Mapping[str, str], slot: str, parts: Parts, folder: Path
    ) -> None:
        self._identity = identity
        self._labels = labels
        self._slot = slot
        self._parts = parts
        self._version = agent_version()
        self._machine = Machine(folder)
        self._counted: tuple[int, ...] = (0,) * BUCKETS
        self._started_ns = time.monotonic_ns()

    def report(self) -> Report:
        """The whole reported state of this moment."""
        updater = self._parts.updater
        slot = rules.slot_state(self._slot, updater.update, updater.notice, updater.running, updater.progress)
        return Report(
            device=self._identity.device,
            public_key=self._identity.public_key,
            labels=self._labels,
            agent_version=self._version,
            slots=[slot],
            reported_ms=clock.now_ms(),
            uplink=self._parts.uplink(),
            alarms=self._parts.alarms(),
        )

    def telemetry(self, interval_s: float) -> Telemetry:
        """What was measured since the last call, `interval_s` ago."""
        stats, depth, running = self._parts.inference.stats(), self._parts.outbox.depth(), self._parts.updater.running
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
            resident_bytes=_resident_bytes(os.getpid()) + _resident_bytes(self._parts.inference.pid),
            model=running.model if running else "",
            version=running.version if running else 0,
            frames_dropped=stats.dropped,
            model_crashes=stats.crashes,
            machine=rules.machine(self._machine.look()),
            latency_counts=self._latency_counts(),
            queued_frames=self._parts.inference.queued,
            uptime_ms=(time.monotonic_ns() - self._started_ns) // 1_000_000,
        )

    def _latency_counts(self) -> list[int]:
        """Of the interval."""
        before, self._counted = self._counted, self._parts.inference.latency_histogram()[0]
        return [now - then for now, then in zip(self._counted, before, strict=True)]

    def status(self) -> dict[str, object]:
        """For people on the device, as JSON."""
        updater = self._parts.updater
        return {
            "device": self._identity.device,
            "pid": os.getpid(),
            "agent_version": self._version,
            "uplink": self._parts.uplink(),
            "alarms": list(self._parts.alarms()),
            **rules.status(updater.update, updater.notice, updater.running, updater.progress),
            "outbox": asdict(self._parts.outbox.depth()),
        }


async def offer_regularly(reporter: Reporter, offer: Callable[[Telemetry], None], every_s: float) -> None:
    """Measure and offer telemetry every so often, until cancelled."""
    loop = asyncio.get_running_loop()
    before = loop.time()
    while True:
        await asyncio.sleep(every_s)
        now = loop.time()
        offer(reporter.telemetry(now - before))
        before = now


def _resident_bytes(pid: int | None) -> int:
    try:
        return rules.resident_bytes(Path(f"/proc/{pid}/statm").read_text(), PAGE_BYTES) if pid else 0
    except OSError:
        return 0  # no /proc here, or the process has just ended
