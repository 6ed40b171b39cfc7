"""What the cloud does with devices: hears them, believes what they prove, and writes down what they shall run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from cloud.fleet import alarms, health, labels, measured, nodes, rules, store, telemetry
from cloud.fleet.entities import (
    BadReceipt,
    BadReport,
    Desired,
    Device,
    DeviceHealth,
    Node,
    Outcome,
    Presence,
    Receipt,
    Rejection,
    Reported,
    Slot,
    Standing,
    UnknownDevice,
)
from cloud.foundation.database import Database, Transaction
from protos.topics import DEFAULT_SLOT
from protos.v1 import report_pb2, uplink_pb2

EVERY_DEVICE = ""


class Fleet:
    """All devices. May be used from any thread; methods that take a transaction run inside the caller's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # What devices say.

    def observe(self, report: report_pb2.Report, now_ms: int) -> list[Rejection]:
        """Take a device's report; returns what of it was not believed, and why."""
        return self.take([report], now_ms)

    def presence(self, device: str, *, online: bool, now_ms: int) -> None:
        """Take the broker's word on whether a device is connected."""
        self.take([Presence(device, online)], now_ms)

    def take(self, news: Iterable[report_pb2.Report | Presence], now_ms: int) -> list[Rejection]:
        """Take what several devices said, in its order and in one transaction; returns what was not believed."""
        rejections: list[Rejection] = []
        with self._database.transaction() as transaction:
            for item in news:
                if isinstance(item, Presence):
                    _take_presence(transaction, item, now_ms)
                else:
                    rejections += _take_report(transaction, item, now_ms)
        return rejections

    def telemetry(self, device: str, told: uplink_pb2.Telemetry, now_ms: int) -> None:
        """Keep a device's newest telemetry. That of a device that never reported is dropped."""
        self.telemetries({device: (told, now_ms)})

    def telemetries(self, said: Mapping[str, tuple[uplink_pb2.Telemetry, int]]) -> None:
        """Keep the newest telemetry of several devices, with when it came, in one transaction."""
        with self._database.transaction() as transaction:
            telemetry.put_newest(transaction, said)

    # What a cluster says of its nodes.

    def take_node(self, node: Node, now_ms: int) -> None:
        """Take what a cluster says of one node."""
        with self._database.reading() as transaction:
            same = nodes.get(transaction, node.device) == node
        if not same:
            with self._database.transaction() as transaction:
                nodes.put(transaction, [node], now_ms)

    def take_nodes(self, present: Sequence[Node], now_ms: int) -> None:
        """Take all nodes that a cluster has; those that are not among them are gone."""
        with self._database.reading() as transaction:
            if not rules.news_of(nodes.known(transaction), present):
                return
        with self._database.transaction() as transaction:
            nodes.put(transaction, rules.news_of(nodes.known(transaction), present), now_ms)

    def forget(self, device: str) -> None:
        """Forget a device's key, so that one set up anew may take its name. Raises UnknownDevice.

        Its generations and receipts are kept: a device never sees a generation twice.
        """
        with self._database.transaction() as transaction:
            if not store.remove_device(transaction, device):
                raise UnknownDevice(device)

    # What is known of them.

    def devices(self, after: str = EVERY_DEVICE, limit: int | None = None) -> list[Device]:
        """Devices that have reported, by id, from the first behind `after`."""
        with self._database.reading() as transaction:
            return _whole(transaction, store.list_devices(transaction, after, limit))

    def device(self, device: str) -> Device:
        """One device. Raises UnknownDevice."""
        with self._database.reading() as transaction:
            found = store.get_device(transaction, device)
            if found is None:
                raise UnknownDevice(device)
            return _whole(transaction, [found])[0]

    def health(self, device: str) -> DeviceHealth | None:
        """How a device was when it told last; None: it told nothing of it yet. Raises UnknownDevice."""
        with self._database.reading() as transaction:
            if store.known(transaction, device) is None:
                raise UnknownDevice(device)
            return health.get(transaction, device)

    def receipts(self, outcome: Outcome | None = None, device: str | None = None, limit: int = 1000) -> list[Receipt]:
        """Verified receipts, the newest first."""
        with self._database.reading() as transaction:
            return store.list_receipts(transaction, outcome, device, limit)

    # What they shall run.

    def desire(self, transaction: Transaction, device: str, slot: str, build: Callable[[int], Desired]) -> Desired:
        """Make what `build` makes of the next generation the newest deployment of a slot."""
        former = store.get_desired(transaction, device, slot)
        new = build(former.generation + 1 if former else 1)
        store.put_desired(transaction, new)
        return new

    def renew(self, transaction: Transaction, before_ms: int, limit: int, sign: Callable[[Desired], Desired]) -> int:
        """Sign newest deployments anew that were issued before then, oldest first; returns how many."""
        old = store.issued_before(transaction, before_ms, limit)
        for row in old:
            store.renew_desired(transaction, sign(row))
        return len(old)

    def oldest(self, transaction: Transaction) -> Desired | None:
        """That of the newest deployments which was signed first."""
        found = store.issued_before(transaction, rules.MAX_INTEGER, 1)
        return found[0] if found else None

    def desired(self, device: str, slot: str = DEFAULT_SLOT) -> Desired | None:
        """The newest deployment of a slot."""
        with self._database.reading() as transaction:
            return store.get_desired(transaction, device, slot)

    def desired_in(self, transaction: Transaction, device: str, slot: str) -> Desired | None:
        """The newest deployment of a slot, as the caller's transaction sees it."""
        return store.get_desired(transaction, device, slot)

    def all_desired(self) -> list[Desired]:
        """Every slot's newest deployment."""
        with self._database.reading() as transaction:
            return store.all_desired(transaction)

    def unanswered(self) -> list[Desired]:
        """Newest deployments on which the device has not yet reported a final state: these must be on the broker."""
        with self._database.reading() as transaction:
            return store.unanswered(transaction)

    def unpublished(self) -> list[Desired]:
        """Newest deployments that were not handed to a broker since they were written."""
        with self._database.reading() as transaction:
            return store.unpublished(transaction)

    def mark_published(self, published: Sequence[Desired]) -> None:
        """Note that these were handed to the broker; what was written over one of them meanwhile stays unpublished."""
        with self._database.transaction() as transaction:
            store.mark_published(transaction, published)

    # What a rollout asks.

    def standings(self, transaction: Transaction, rollout: str) -> list[Standing]:
        """Where the devices stand whose newest deployment is this rollout's."""
        return store.standings(transaction, rollout)

    def labelled_since(
        self, transaction: Transaction, since_ms: int, slot: str = DEFAULT_SLOT
    ) -> list[tuple[str, Mapping[str, str]]]:
        """Devices with this slot that came, or changed their labels or slots, since then: id and labels."""
        found = labels.since(transaction, since_ms, slot)
        return [(one.device, rules.labels_of(one.reported, one.of_node)) for one in found]

    def closed(self, transaction: Transaction) -> frozenset[str]:
        """Devices that take no new model now: their nodes are cordoned."""
        return nodes.closed(transaction)

    def labels(self) -> dict[str, Mapping[str, str]]:
        """The labels of every device, by id, whatever slots it has."""
        with self._database.reading() as connection:
            found = labels.every(connection)
        return {one.device: rules.labels_of(one.reported, one.of_node) for one in found}


def _whole(transaction: Transaction, found: Sequence[Device]) -> list[Device]:
    cluster = nodes.of(transaction, found)
    whole = alarms.with_alarms(transaction, measured.with_measured(transaction, found))
    return [rules.as_node(device, cluster.get(device.id)) for device in whole] if cluster else whole


def _take_presence(transaction: Transaction, presence: Presence, now_ms: int) -> None:
    known = store.known(transaction, presence.device)
    if known is None:
        store.add_device(transaction, presence.device, now_ms, online=presence.online)
    elif known.online != presence.online:
        store.put_presence(transaction, presence.device, now_ms, online=presence.online)


def _take_report(transaction: Transaction, report: report_pb2.Report, now_ms: int) -> list[Rejection]:
    try:
        reported = rules.read_report(report)
        known = store.known(transaction, reported.device)
        rules.check_key(known, reported)
    except BadReport as error:
        return [Rejection(report.device[:63], f"report not taken: {error}")]
    if known is None:
        store.add_device(transaction, reported.device, now_ms, online=False)
    stored = store.slots_of(transaction, reported.device)
    names = {slot.slot for slot in reported.slots}
    if rules.is_news(known, reported):
        relabelled = known is None or not known.public_key or known.labels != reported.labels
        store.put_report(transaction, reported, now_ms, relabelled=relabelled or not names <= stored.keys())
    for slot in rules.changed(reported, stored):
        store.put_slot(transaction, reported.device, slot)
    measured.remove_slots(transaction, reported.device, stored.keys() - names)
    measured.put(transaction, reported.device, reported.hardware, reported.slots)
    alarms.put(transaction, reported.device, reported.alarms)
    problems = (_take_receipt(transaction, reported, slot, now_ms) for slot in reported.slots)
    return [Rejection(reported.device, problem) for problem in problems if problem]


def _take_receipt(transaction: Transaction, reported: Reported, slot: Slot, now_ms: int) -> str:
    """Store the receipt of a slot's report, if there is one to believe; returns what is wrong with it."""
    signed = reported.receipts.get(slot.slot)
    if signed is None:
        return ""
    try:
        claim = rules.read_receipt(reported.device, slot, signed, reported.public_key)
    except BadReceipt as error:
        return f"receipt not taken: {error}"
    if not store.add_receipt(transaction, reported.device, claim, now_ms):
        return f"receipt not taken: generation {claim.generation} of slot {slot.slot!r} was never given that manifest"
    return ""
