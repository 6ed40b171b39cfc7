"""The fleet's nouns: a device and its slots, what is desired of it, what it reported, what it proved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from protos.topics import DEFAULT_SLOT


class UpdateState(StrEnum):
    """How far a slot's newest deployment has come on the device, by the device's own word."""

    IDLE = "idle"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    STAGED = "staged"
    TRIAL = "trial"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"


FINAL_STATES = frozenset({UpdateState.COMMITTED, UpdateState.ROLLED_BACK, UpdateState.REFUSED})
"""The device does nothing more for a generation in one of these."""


class Outcome(StrEnum):
    """What a receipt proves."""

    COMMITTED = "committed"
    REFUSED = "refused"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, slots=True)
class VariantMeasured:
    """What one variant of a model version came to on a device. problem: why it is not run there; empty: it can be.

    single_us: a frame alone; frame_us: one in the best batch. accuracy: the manifest's. measured_in: version whose file
    was measured, 0: none.
    """

    variant: str
    problem: str
    single_us: float
    frame_us: float
    accuracy: float
    threads: int
    measured_in: int


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot of a device as it reported it.

    generation: the newest deployment it speaks of; manifest: that deployment's digest; running: digest of the manifest
    in use, empty if none; version 0: none. variant: in use; variants: what it was chosen from. threads: that it has.
    """

    slot: str = DEFAULT_SLOT
    state: UpdateState = UpdateState.IDLE
    generation: int = 0
    manifest: bytes = b""
    reason: str = ""
    running: bytes = b""
    running_model: str = ""
    running_version: int = 0
    chunks_total: int = 0
    chunks_present: int = 0
    variant: str = ""
    threads: int = 0
    variants: tuple[VariantMeasured, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceTelemetry:
    """The newest interval measured on a device. Latencies in µs; measured_ms by its clock, received_ms by ours."""

    measured_ms: int
    received_ms: int
    interval_s: float
    inferences: int
    inference_errors: int
    latency_p50_us: int
    latency_p95_us: int
    outbox_rows: int
    outbox_bytes: int
    dropped: int
    resident_bytes: int
    model: str
    version: int

    @property
    def inferences_per_s(self) -> float:
        """The interval's rate."""
        return self.inferences / self.interval_s if self.interval_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class SlotHealth:
    """What one of several models did in that interval: counts of frames, µs from a frame to its result."""

    slot: str
    model: str
    version: int
    inferences: int
    inference_errors: int
    latency_p50_us: int
    latency_p95_us: int
    frames_dropped: int
    model_crashes: int


@dataclass(frozen=True, slots=True)
class DeviceHealth:
    """How a device was in the newest interval that it told of. Sizes in bytes, of the machine; 0: not known.

    processor: share of all cores that was busy. queued_frames: handed in and not settled. latency_counts: frames by
    latency, in the buckets of `protos.kit.latency`. slots: none where it runs one model.
    """

    measured_ms: int
    processor: float
    memory: int
    memory_available: int
    disk: int
    disk_free: int
    temperature_c: float | None
    queued_frames: int
    frames_dropped: int
    model_crashes: int
    uptime_ms: int
    latency_counts: tuple[int, ...]
    slots: tuple[SlotHealth, ...] = ()


@dataclass(frozen=True, slots=True)
class Interval:
    """What a device told of one interval. health: None from one that tells nothing of its machine."""

    telemetry: DeviceTelemetry
    health: DeviceHealth | None


@dataclass(frozen=True, slots=True)
class IntervalsAsked:
    """Intervals of a device that are meant: from_ms <= measured < to_ms, by its clock; None: any."""

    device: str
    from_ms: int | None = None
    to_ms: int | None = None


@dataclass(frozen=True, slots=True)
class IntervalPlace:
    """Where a page of a device's history ended."""

    measured_ms: int
    stream: int
    seq: int


@dataclass(frozen=True, slots=True)
class Intervals:
    """Some of a device's history, and where to go on; None: there is no more."""

    intervals: Sequence[Interval]
    after: IntervalPlace | None


class NodeState(StrEnum):
    """Of a cluster's node, as its control plane sees it."""

    READY = "ready"
    NOT_READY = "not_ready"
    GONE = "gone"  # no longer part of the cluster


@dataclass(frozen=True, slots=True)
class Node:
    """What a cluster says of the node that a device is. labels: as rollouts select by them. cordoned: drained, or about
    to be.
    """

    device: str
    labels: Mapping[str, str] = field(default_factory=dict)
    state: NodeState = NodeState.READY
    cordoned: bool = False

    @property
    def is_closed(self) -> bool:
        """Whether it takes no new model now. A node that is gone is no longer under anyone's care."""
        return self.cordoned and self.state is not NodeState.GONE


@dataclass(frozen=True, slots=True)
class Device:
    """A device that has reported at least once. Times in Unix ms by the cloud's clock.

    labels: its own and its node's. node: None if it is not a node of a cluster.
    """

    id: str
    online: bool
    labels: Mapping[str, str]
    agent_version: str
    first_seen_ms: int
    last_seen_ms: int
    slots: Mapping[str, Slot] = field(default_factory=dict)
    telemetry: DeviceTelemetry | None = None
    alarms: tuple[str, ...] = ()
    hardware: str = ""
    node: Node | None = None

    @property
    def main(self) -> Slot:
        """The slot of the device's main model; of a device that has named all of its slots, the first by name."""
        return self.slots.get(DEFAULT_SLOT) or self.slots.get(min(self.slots, default=""), Slot())


@dataclass(frozen=True, slots=True)
class Desired:
    """What one slot of one device shall run: the newest deployment. An empty manifest: no model.

    signed: the serialized Signed Deployment, as it is published. published: it was handed to the broker since it was
    written.
    """

    device: str
    slot: str
    generation: int
    model: str
    version: int
    manifest: bytes
    rollout: str
    signed: bytes
    issued_ms: int
    published: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a device proved for one deployment, verified. artifact: digest of the variant that it ran."""

    device: str
    slot: str
    generation: int
    manifest: bytes
    model: str
    version: int
    outcome: Outcome
    reason: str
    artifact: bytes
    variant: str
    golden_outputs: bytes
    signed: bytes
    received_ms: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A receipt whose signature holds; whether it answers a deployment of ours is not yet known."""

    slot: str
    generation: int
    manifest: bytes
    outcome: Outcome
    reason: str
    artifact: bytes
    variant: str
    golden_outputs: bytes
    signed: bytes


@dataclass(frozen=True, slots=True)
class Presence:
    """The broker's word on whether a device is connected."""

    device: str
    online: bool


@dataclass(frozen=True, slots=True)
class Reported:
    """A device's report, within its limits. receipts: by slot, the serialized Signed Receipt as it came.

    reported_ms is by the device's clock, which may be wrong: it only tells one report from another.
    """

    device: str
    public_key: bytes
    labels: Mapping[str, str]
    agent_version: str
    reported_ms: int
    slots: tuple[Slot, ...]
    receipts: Mapping[str, bytes]
    alarms: tuple[str, ...] = ()
    hardware: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """What is on record of a device before a report is taken. public_key is empty before its first report."""

    public_key: bytes
    labels: Mapping[str, str]
    reported_ms: int
    online: bool


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a device: those that it reported, and those of its node (None: it is none)."""

    device: str
    reported: Mapping[str, str]
    of_node: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a device stands with the deployment that a rollout gave it, if that is still the newest for the slot.

    online, last_seen_ms: of the device. outcomes: what it has proved for this generation, with its reasons.
    """

    device: str
    generation: int
    manifest: bytes
    online: bool
    last_seen_ms: int
    outcomes: Mapping[Outcome, str]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why something that a device sent was not believed, for the log."""

    device: str
    reason: str


class UnknownDevice(Exception):
    """No device of this id has reported."""


class BadReport(Exception):
    """This report cannot be believed; nothing of it was taken."""


class BadReceipt(Exception):
    """This receipt proves nothing; the rest of its report stands."""
