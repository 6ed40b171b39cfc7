"""The fleet's SQL: devices, their slots and telemetry, desired state with its history, receipts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Row,
    Select,
    String,
    Table,
    UniqueConstraint,
    and_,
    delete,
    insert,
    select,
    update,
)

from cloud.fleet.entities import (
    FINAL_STATES,
    Claim,
    Desired,
    Device,
    DeviceTelemetry,
    Known,
    Outcome,
    Receipt,
    Reported,
    Slot,
    Standing,
    UpdateState,
)
from cloud.foundation.database import metadata

devices = Table(
    "devices",
    metadata,
    Column("id", String, primary_key=True),
    Column("public_key", LargeBinary, nullable=False),  # empty: only its presence is known
    Column("labels", JSON, nullable=False),
    Column("labelled_ms", BigInteger, nullable=False),  # when the labels became what they are
    Column("agent_version", String, nullable=False),
    Column("first_seen_ms", BigInteger, nullable=False),
    Column("last_seen_ms", BigInteger, nullable=False),
    Column("reported_ms", BigInteger, nullable=False),  # by the device's clock
    Column("online", Boolean, nullable=False),
    Index("devices_by_labelling", "labelled_ms"),
)

slots = Table(
    "device_slots",
    metadata,
    Column("device", ForeignKey(devices.c.id, ondelete="CASCADE"), primary_key=True),
    Column("slot", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    Column("reason", String, nullable=False),
    Column("running", LargeBinary, nullable=False),
    Column("running_model", String, nullable=False),
    Column("running_version", BigInteger, nullable=False),
    Column("chunks_total", BigInteger, nullable=False),
    Column("chunks_present", BigInteger, nullable=False),
)

telemetry = Table(
    "device_telemetry",
    metadata,
    Column("device", ForeignKey(devices.c.id, ondelete="CASCADE"), primary_key=True),
    Column("measured_ms", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("interval_s", Float, nullable=False),
    Column("inferences", BigInteger, nullable=False),
    Column("inference_errors", BigInteger, nullable=False),
    Column("latency_p50_us", BigInteger, nullable=False),
    Column("latency_p95_us", BigInteger, nullable=False),
    Column("outbox_rows", BigInteger, nullable=False),
    Column("outbox_bytes", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
    Column("resident_bytes", BigInteger, nullable=False),
    Column("model", String, nullable=False),
    Column("version", BigInteger, nullable=False),
)

# No foreign key to devices: a forgotten device keeps its generations, which must never be given twice.
desired = Table(
    "desired",
    metadata,
    Column("device", String, primary_key=True),
    Column("slot", String, primary_key=True),
    Column("generation", BigInteger, nullable=False),
    Column("model", String, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    Column("rollout", String, nullable=False),
    Column("signed", LargeBinary, nullable=False),
    Column("issued_ms", BigInteger, nullable=False),
    Column("published", Boolean, nullable=False),
    Index("desired_by_rollout", "rollout"),
    Index("desired_by_age", "issued_ms"),
)

assignments = Table(
    "assignments",  # every deployment there ever was: what a receipt is checked against
    metadata,
    Column("device", String, primary_key=True),
    Column("slot", String, primary_key=True),
    Column("generation", BigInteger, primary_key=True, autoincrement=False),
    Column("model", String, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    Column("rollout", String, nullable=False),
    Column("issued_ms", BigInteger, nullable=False),
)

receipts = Table(
    "receipts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("device", String, nullable=False),
    Column("slot", String, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    Column("model", String, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("outcome", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("artifact", LargeBinary, nullable=False),
    Column("variant", String, nullable=False),
    Column("golden_outputs", LargeBinary, nullable=False),
    Column("signed", LargeBinary, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    UniqueConstraint("device", "slot", "generation", "outcome"),
)

_DEVICE_COLUMNS = [column for column in devices.c if column.name not in {"public_key", "labelled_ms", "reported_ms"}]
_SLOT_COLUMNS = [column for column in slots.c if column.name != "device"]
_TELEMETRY_COLUMNS = [column for column in telemetry.c if column.name != "device"]


def known(connection: Connection, device: str) -> Known | None:
    """What is on record of a device; None: nothing, not even its presence."""
    d = devices.c
    row = connection.execute(
        select(d.public_key, d.labels, d.reported_ms, d.online).where(d.id == device)
    ).one_or_none()
    return Known(*row) if row else None


def add_device(connection: Connection, device: str, now_ms: int, *, online: bool) -> None:
    """A device of which so far only the id is known."""
    values = {"id": device, "public_key": b"", "labels": {}, "agent_version": "", "reported_ms": 0, "online": online}
    connection.execute(insert(devices).values(**values, first_seen_ms=now_ms, last_seen_ms=now_ms, labelled_ms=0))


def put_report(connection: Connection, reported: Reported, now_ms: int, *, relabelled: bool) -> None:
    """Write a report over the device's former one, its slots apart."""
    values: dict[str, object] = {
        "public_key": reported.public_key,
        "agent_version": reported.agent_version,
        "reported_ms": reported.reported_ms,
        "last_seen_ms": now_ms,
    }
    if relabelled:
        values |= {"labels": dict(reported.labels), "labelled_ms": now_ms}
    connection.execute(update(devices).where(devices.c.id == reported.device).values(values))


def put_presence(connection: Connection, device: str, now_ms: int, *, online: bool) -> None:
    """Write whether the device is connected; coming online, it was seen."""
    seen = {"last_seen_ms": now_ms} if online else {}
    connection.execute(update(devices).where(devices.c.id == device).values(online=online, **seen))


def remove_device(connection: Connection, device: str) -> bool:
    """Forget a device's key, labels, slots and telemetry. False: there was none."""
    return connection.execute(delete(devices).where(devices.c.id == device)).rowcount > 0


def slots_of(connection: Connection, device: str) -> dict[str, Slot]:
    """The slots a device has reported, by name."""
    found = connection.execute(select(*_SLOT_COLUMNS).where(slots.c.device == device))
    return {row.slot: _slot(row) for row in found}


def put_slot(connection: Connection, device: str, slot: Slot) -> None:
    """Write a slot as reported."""
    values = {name: value for name, value in asdict(slot).items() if name in slots.c} | {"state": slot.state.value}
    there = and_(slots.c.device == device, slots.c.slot == slot.slot)
    if not connection.execute(update(slots).where(there).values(values)).rowcount:
        connection.execute(insert(slots).values(device=device, **values))


def list_devices(connection: Connection, after: str, limit: int | None) -> list[Device]:
    """Devices that have reported, by id, from the first behind `after`; all of them without a limit."""
    wanted = _devices().where(devices.c.id > after).order_by(devices.c.id).limit(limit)
    rows = connection.execute(wanted).all()
    last = rows[-1].id if rows else ""
    return _with_slots(connection, rows, and_(slots.c.device > after, slots.c.device <= last))


def get_device(connection: Connection, device: str) -> Device | None:
    """One device, if it has reported."""
    rows = connection.execute(_devices().where(devices.c.id == device)).all()
    return next(iter(_with_slots(connection, rows, slots.c.device == device)), None)


def get_desired(connection: Connection, device: str, slot: str) -> Desired | None:
    """The newest deployment of a slot."""
    wanted = select(desired).where(desired.c.device == device, desired.c.slot == slot)
    row = connection.execute(wanted).one_or_none()
    return Desired(*row) if row else None


def put_desired(connection: Connection, new: Desired) -> None:
    """Make `new` the slot's newest deployment, and part of its history. Its generation must be the former one + 1."""
    values = asdict(new)
    former = and_(
        desired.c.device == new.device, desired.c.slot == new.slot, desired.c.generation == new.generation - 1
    )
    if not connection.execute(update(desired).where(former).values(values)).rowcount:
        connection.execute(insert(desired).values(values))
    history = {name: values[name] for name in assignments.c.keys()}  # noqa: SIM118 - a column collection is no dict
    connection.execute(insert(assignments).values(history))


def renew_desired(connection: Connection, renewed: Desired) -> None:
    """Write the same generation signed anew; nothing happens if there is a newer one by now."""
    same = and_(
        desired.c.device == renewed.device,
        desired.c.slot == renewed.slot,
        desired.c.generation == renewed.generation,
    )
    new = {"signed": renewed.signed, "issued_ms": renewed.issued_ms, "published": False}
    connection.execute(update(desired).where(same).values(new))


def mark_published(connection: Connection, published: Iterable[Desired]) -> None:
    """Note that these were handed to the broker: exactly these, not what was written over them meanwhile."""
    for row in published:
        same = and_(
            desired.c.device == row.device,
            desired.c.slot == row.slot,
            desired.c.generation == row.generation,
            desired.c.issued_ms == row.issued_ms,
        )
        connection.execute(update(desired).where(same).values(published=True))


def all_desired(connection: Connection) -> list[Desired]:
    """Every slot's newest deployment."""
    return _desired(connection, select(desired))


def unpublished(connection: Connection) -> list[Desired]:
    """Newest deployments that were not yet handed to the broker."""
    return _desired(connection, select(desired).where(desired.c.published.is_(False)))


def unanswered(connection: Connection) -> list[Desired]:
    """Newest deployments on which the device has not yet reported a final state."""
    done = and_(
        slots.c.device == desired.c.device,
        slots.c.slot == desired.c.slot,
        slots.c.generation >= desired.c.generation,
        slots.c.state.in_([str(state) for state in FINAL_STATES]),
    )
    return _desired(connection, select(desired).outerjoin(slots, done).where(slots.c.device.is_(None)))


def issued_before(connection: Connection, before_ms: int, limit: int) -> list[Desired]:
    """The oldest signatures among the newest deployments."""
    wanted = select(desired).where(desired.c.issued_ms < before_ms).order_by(desired.c.issued_ms).limit(limit)
    return [Desired(*row) for row in connection.execute(wanted)]


def standings(connection: Connection, rollout: str) -> list[Standing]:
    """Where the devices stand whose newest deployment is this rollout's."""
    d, r = desired.c, receipts.c
    answered = and_(r.device == d.device, r.slot == d.slot, r.generation == d.generation)
    wanted = (
        select(d.device, d.generation, d.manifest, devices.c.online, devices.c.last_seen_ms, r.outcome, r.reason)
        .select_from(desired)
        .outerjoin(devices, devices.c.id == d.device)
        .outerjoin(receipts, answered)
        .where(d.rollout == rollout)
        .order_by(d.device)
    )
    found: dict[str, Standing] = {}
    for row in connection.execute(wanted):
        outcomes = dict(found[row.device].outcomes) if row.device in found else {}
        if row.outcome:
            outcomes[Outcome(row.outcome)] = row.reason
        found[row.device] = Standing(
            row.device, row.generation, row.manifest, bool(row.online), row.last_seen_ms or 0, outcomes
        )
    return list(found.values())


def add_receipt(connection: Connection, device: str, claim: Claim, now_ms: int) -> bool:
    """Store a receipt for a deployment; the same again changes nothing. False: there was no such deployment."""
    a = assignments.c
    answered = and_(
        a.device == device, a.slot == claim.slot, a.generation == claim.generation, a.manifest == claim.manifest
    )
    found = connection.execute(select(a.model, a.version).where(answered)).one_or_none()
    if found is None:
        return False
    if not has_receipt(connection, device, claim.slot, claim.generation, claim.outcome):
        values = asdict(claim) | {"device": device, "outcome": claim.outcome.value, **found._asdict()}
        connection.execute(insert(receipts).values(**values, received_ms=now_ms))
    return True


def has_receipt(connection: Connection, device: str, slot: str, generation: int, outcome: Outcome) -> bool:
    """Whether this has been proved already."""
    r = receipts.c
    same = and_(r.device == device, r.slot == slot, r.generation == generation, r.outcome == str(outcome))
    return connection.execute(select(r.id).where(same)).first() is not None


def list_receipts(connection: Connection, outcome: Outcome | None, device: str | None, limit: int) -> list[Receipt]:
    """Receipts, the newest first."""
    wanted = select(*[column for column in receipts.c if column.name != "id"])
    if outcome:
        wanted = wanted.where(receipts.c.outcome == str(outcome))
    if device:
        wanted = wanted.where(receipts.c.device == device)
    found = connection.execute(wanted.order_by(receipts.c.id.desc()).limit(limit))
    return [Receipt(**{**row, "outcome": Outcome(row["outcome"])}) for row in found.mappings()]


def _devices() -> Select[Any]:
    joined = select(*_DEVICE_COLUMNS, *_TELEMETRY_COLUMNS).outerjoin(telemetry, telemetry.c.device == devices.c.id)
    return joined.where(devices.c.public_key != b"")


def _with_slots(connection: Connection, rows: Sequence[Row[Any]], where: Any) -> list[Device]:  # noqa: ANN401
    by_device: dict[str, dict[str, Slot]] = {}
    for row in connection.execute(select(slots).where(where)) if rows else ():
        by_device.setdefault(row.device, {})[row.slot] = _slot(row)
    return [
        Device(
            id=row.id,
            online=row.online,
            labels=row.labels,
            agent_version=row.agent_version,
            first_seen_ms=row.first_seen_ms,
            last_seen_ms=row.last_seen_ms,
            slots=by_device.get(row.id, {}),
            telemetry=None if row.measured_ms is None else DeviceTelemetry(*tuple(row)[len(_DEVICE_COLUMNS) :]),
        )
        for row in rows
    ]


def _desired(connection: Connection, wanted: Select[Any]) -> list[Desired]:
    return [Desired(*row) for row in connection.execute(wanted.order_by(desired.c.device, desired.c.slot))]


def _slot(row: Row[Any]) -> Slot:
    return Slot(
        slot=row.slot,
        state=UpdateState(row.state),
        generation=row.generation,
        manifest=row.manifest,
        reason=row.reason,
        running=row.running,
        running_model=row.running_model,
        running_version=row.running_version,
        chunks_total=row.chunks_total,
        chunks_present=row.chunks_present,
    )
