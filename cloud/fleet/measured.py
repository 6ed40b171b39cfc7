"""What devices measured of their models' variants: SQL of a table of its own, with a row for each slot."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Row,
    String,
    Table,
    and_,
    delete,
    insert,
    select,
    update,
)

from cloud.fleet.entities import Device, Slot, VariantMeasured
from cloud.fleet.store import devices, slots
from cloud.foundation.database import metadata

measured = Table(
    "device_slot_variants",
    metadata,
    Column("device", ForeignKey(devices.c.id, ondelete="CASCADE"), primary_key=True),
    Column("slot", String, primary_key=True),
    Column("hardware", String, nullable=False),
    Column("variant", String, nullable=False),  # in use
    Column("threads", BigInteger, nullable=False),
    Column("variants", JSON, nullable=False),
)


def put(connection: Connection, device: str, hardware: str, reported: Sequence[Slot]) -> None:
    """Write what a report says; most reports only repeat it."""
    known = {row.slot: row._asdict() for row in connection.execute(select(measured).where(measured.c.device == device))}
    for slot in reported:
        values = _values(device, hardware, slot)
        there = and_(measured.c.device == device, measured.c.slot == slot.slot)
        if slot.slot not in known:
            connection.execute(insert(measured).values(values))
        elif known[slot.slot] != values:
            connection.execute(update(measured).where(there).values(values))


def remove_slots(connection: Connection, device: str, gone: Collection[str]) -> None:
    """Forget slots that the device has no more. What is desired of them stays: its generations only grow."""
    for kept in (measured, slots) if gone else ():
        connection.execute(delete(kept).where(kept.c.device == device, kept.c.slot.in_(gone)))


def with_measured(connection: Connection, found: Sequence[Device]) -> list[Device]:
    """The devices, which come by id, with what they measured."""
    known = _between(connection, found[0].id, found[-1].id) if found else {}
    return [_completed(device, known.get(device.id, {})) for device in found]


def _between(connection: Connection, first: str, last: str) -> Mapping[str, Mapping[str, Row[Any]]]:
    wanted = select(measured).where(measured.c.device.between(first, last))
    by_device: dict[str, dict[str, Row[Any]]] = {}
    for row in connection.execute(wanted):
        by_device.setdefault(row.device, {})[row.slot] = row
    return by_device


def _completed(device: Device, told: Mapping[str, Row[Any]]) -> Device:
    if not told:
        return device
    hardware = next((row.hardware for row in told.values()), "")
    completed = {name: _with(slot, told.get(name)) for name, slot in device.slots.items()}
    return replace(device, slots=completed, hardware=hardware)


def _with(slot: Slot, row: Row[Any] | None) -> Slot:
    if row is None:
        return slot
    variants = tuple(VariantMeasured(**fields) for fields in row.variants)
    return replace(slot, variant=row.variant, threads=row.threads, variants=variants)


def _values(device: str, hardware: str, slot: Slot) -> dict[str, object]:
    return {
        "device": device,
        "slot": slot.slot,
        "hardware": hardware,
        "variant": slot.variant,
        "threads": slot.threads,
        "variants": [asdict(row) for row in slot.variants],
    }
