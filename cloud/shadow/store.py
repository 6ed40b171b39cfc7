"""The SQL of challengers: the newest of each device's slot, with the newest comparison."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import (  # fmt: skip
    BigInteger,
    Column,
    Connection,
    Float,
    LargeBinary,
    Row,
    String,
    Table,
    and_,
    insert,
    select,
    update,
)

from cloud.foundation.database import metadata
from cloud.shadow.entities import Challenge
from protos.v1.sketches_pb2 import Comparison

challenges = Table(
    "challenges",
    metadata,
    Column("device", String(63), primary_key=True),
    Column("slot", String(63), primary_key=True),  # of the champion
    Column("generation", BigInteger, nullable=False),
    Column("model", String(63), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("manifest", LargeBinary(32), nullable=False),
    Column("share", Float, nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("stopped_ms", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("comparison", LargeBinary, nullable=False),
)


def put(connection: Connection, challenge: Challenge) -> None:
    """Write a challenge over the one before of this slot."""
    values = asdict(challenge) | {"comparison": challenge.comparison.SerializeToString()}
    there = _there(challenge.device, challenge.slot)
    if not connection.execute(update(challenges).where(there).values(values)).rowcount:
        connection.execute(insert(challenges).values(values))


def get(connection: Connection, device: str, slot: str) -> Challenge | None:
    """The newest challenge of a device's slot."""
    row = connection.execute(select(challenges).where(_there(device, slot))).one_or_none()
    return _challenge(row) if row else None


def put_comparison(connection: Connection, challenge: Challenge, comparison: Comparison, now_ms: int) -> None:
    """Write a device's newest word on a challenge, if that is still the newest."""
    same = and_(_there(challenge.device, challenge.slot), challenges.c.generation == challenge.generation)
    values = {"comparison": comparison.SerializeToString(), "received_ms": now_ms}
    connection.execute(update(challenges).where(same).values(values))


def find(connection: Connection, model: str | None, version: int | None) -> list[Challenge]:
    """Challenges by device, of one model or one version of it if such is given."""
    wanted = select(challenges).order_by(challenges.c.device, challenges.c.slot)
    if model is not None:
        wanted = wanted.where(challenges.c.model == model)
    if version is not None:
        wanted = wanted.where(challenges.c.version == version)
    return [_challenge(row) for row in connection.execute(wanted)]


def _there(device: str, slot: str) -> Any:  # noqa: ANN401 - a condition
    return and_(challenges.c.device == device, challenges.c.slot == slot)


def _challenge(row: Row[Any]) -> Challenge:
    return Challenge(**{**row._asdict(), "comparison": Comparison.FromString(row.comparison)})
