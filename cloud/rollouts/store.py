"""The rollouts' SQL: rollouts, their members, and the lease of the one active controller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Row,
    Select,
    String,
    Table,
    bindparam,
    func,
    insert,
    or_,
    select,
    update,
)

from cloud.foundation.database import metadata
from cloud.rollouts.entities import (
    ACTIVE,
    OPEN,
    Conflict,
    Former,
    Gates,
    Lease,
    Member,
    MemberState,
    Overview,
    Rollout,
    State,
)

CONTROLLER = "controller"

rollouts = Table(
    "rollouts",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("model", String, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    Column("slot", String, nullable=False),
    Column("selector", JSON, nullable=False),
    Column("gates", JSON, nullable=False),
    Column("waves", Integer, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("state", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("wave", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index("rollouts_by_state", "state"),
)

members = Table(
    "rollout_members",
    metadata,
    Column("rollout", ForeignKey(rollouts.c.number), primary_key=True, autoincrement=False),
    Column("device", String, primary_key=True),
    Column("wave", Integer, nullable=False),
    Column("state", String, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("reason", String, nullable=False),
    Column("waiting_ms", BigInteger, nullable=False),
    Column("succeeded_ms", BigInteger, nullable=False),
    Column("former_generation", BigInteger, nullable=False),
    Column("former_model", String, nullable=False),
    Column("former_version", BigInteger, nullable=False),
    Column("former_manifest", LargeBinary, nullable=False),
    Column("former_rollout", String, nullable=False),
    Index("rollout_members_by_state", "state", "rollout"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
)


def add(connection: Connection, rollout: Rollout) -> Rollout:
    """Store a new rollout with its members; returns it with its number."""
    values = _header_values(rollout) | {"id": rollout.id, "selector": dict(rollout.selector)}
    values |= {"waves": rollout.waves, "created_ms": rollout.created_ms}
    values |= {"model": rollout.model, "version": rollout.version, "manifest": rollout.manifest, "slot": rollout.slot}
    number = connection.execute(insert(rollouts).values(values)).inserted_primary_key
    stored = replace(rollout, number=int(number[0]) if number else 0)
    _add_members(connection, stored.number, rollout.members.values())
    return stored


def save(connection: Connection, before: Rollout, after: Rollout) -> None:
    """Write what has changed. Raises Conflict if `before` is no longer what is stored."""
    same = (rollouts.c.number == before.number) & (rollouts.c.revision == before.revision)
    values = _header_values(after) | {"revision": before.revision + 1}
    if connection.execute(update(rollouts).where(same).values(values)).rowcount != 1:
        raise Conflict(f"rollout {before.id} was written by someone else meanwhile")
    changed = [m for device, m in after.members.items() if before.members.get(device) is not m]
    _add_members(connection, before.number, [member for member in changed if member.device not in before.members])
    _put_members(connection, before.number, [member for member in changed if member.device in before.members])


def get(connection: Connection, rollout: str) -> Rollout | None:
    """One rollout with its members."""
    row = connection.execute(select(rollouts).where(rollouts.c.id == rollout)).one_or_none()
    return with_members(connection, _header(row)) if row else None


def get_member(connection: Connection, rollout: str, device: str) -> tuple[State, Member] | None:
    """One member of a rollout, and the rollout's state."""
    wanted = select(rollouts.c.state.label("rollout_state"), members).join_from(rollouts, members)
    row = connection.execute(wanted.where(rollouts.c.id == rollout, members.c.device == device)).one_or_none()
    return (State(row.rollout_state), _member(row)) if row else None


def state_of(connection: Connection, rollout: str) -> State | None:
    """A rollout's state; None: there is no such rollout."""
    found = connection.execute(select(rollouts.c.state).where(rollouts.c.id == rollout)).scalar_one_or_none()
    return State(found) if found else None


def unfinished(connection: Connection) -> list[Rollout]:
    """Rollouts that are active or have members still to answer, the newest first, without their members."""
    still_open = select(members.c.rollout).where(members.c.state.in_([state.value for state in OPEN]))
    active = rollouts.c.state.in_([state.value for state in ACTIVE])
    wanted = select(rollouts).where(or_(active, rollouts.c.number.in_(still_open))).order_by(rollouts.c.number.desc())
    return [_header(row) for row in connection.execute(wanted)]


def count_by_state(connection: Connection) -> dict[State, int]:
    """How many rollouts are in each state; states that none is in are left out."""
    counted = select(rollouts.c.state, func.count()).group_by(rollouts.c.state)
    return {State(state): count for state, count in connection.execute(counted)}


def with_members(connection: Connection, rollout: Rollout) -> Rollout:
    """The rollout, its members read."""
    wanted = select(members).where(members.c.rollout == rollout.number).order_by(members.c.wave, members.c.device)
    return replace(rollout, members={row.device: _member(row) for row in connection.execute(wanted)})


def overviews(connection: Connection, limit: int) -> list[Overview]:
    """Rollouts, the newest first, each with the tallies of its waves and without its members."""
    return _overviews(connection, select(rollouts).limit(limit))


def standing(connection: Connection, prefix: str) -> list[Overview]:
    """Of the rollouts whose ids begin so those that are active, and the newest, as overviews."""
    named = rollouts.c.id.startswith(prefix, autoescape=True)
    newest = select(func.max(rollouts.c.number)).where(named).scalar_subquery()
    active = rollouts.c.state.in_([state.value for state in ACTIVE])
    return _overviews(connection, select(rollouts).where(named, or_(active, rollouts.c.number == newest)))


def get_lease(connection: Connection, *, lock: bool = False) -> Lease | None:
    """The controller's lease; locked, no other transaction changes it until this one ends."""
    l = leases.c  # noqa: E741 - as the other tables
    wanted = select(l.owner, l.token, l.expires_ms, l.since_ms).where(l.name == CONTROLLER)
    row = connection.execute(wanted.with_for_update() if lock else wanted).one_or_none()
    return Lease(*row) if row else None


def put_lease(connection: Connection, lease: Lease) -> None:
    """Write the controller's lease."""
    values = asdict(lease)
    if not connection.execute(update(leases).where(leases.c.name == CONTROLLER).values(values)).rowcount:
        connection.execute(insert(leases).values(name=CONTROLLER, **values))


def _header_values(rollout: Rollout) -> dict[str, object]:
    return {
        "gates": asdict(rollout.gates),
        "state": rollout.state.value,
        "reason": rollout.reason,
        "wave": rollout.wave,
        "revision": rollout.revision,
    }


def _header(row: Row[Any]) -> Rollout:
    values = row._asdict()
    return Rollout(**{**values, "state": State(row.state), "gates": Gates(**row.gates), "members": {}})


def _add_members(connection: Connection, number: int, added: Iterable[Member]) -> None:
    if rows := [_member_values(member) | {"rollout": number} for member in added]:
        connection.execute(insert(members), rows)


def _put_members(connection: Connection, number: int, changed: Iterable[Member]) -> None:
    same = (members.c.rollout == number) & (members.c.device == bindparam("of_device"))
    if rows := [_member_values(member) | {"of_device": member.device} for member in changed]:
        connection.execute(update(members).where(same), rows)


def _member_values(member: Member) -> dict[str, object]:
    return {
        "device": member.device,
        "wave": member.wave,
        "state": member.state.value,
        "generation": member.generation,
        "reason": member.reason,
        "waiting_ms": member.waiting_ms,
        "succeeded_ms": member.succeeded_ms,
        "former_generation": member.former.generation,
        "former_model": member.former.model,
        "former_version": member.former.version,
        "former_manifest": member.former.manifest,
        "former_rollout": member.former.rollout,
    }


def _member(row: Row[Any]) -> Member:
    return Member(
        device=row.device,
        wave=row.wave,
        state=MemberState(row.state),
        generation=row.generation,
        reason=row.reason,
        waiting_ms=row.waiting_ms,
        succeeded_ms=row.succeeded_ms,
        former=Former(
            row.former_generation, row.former_model, row.former_version, row.former_manifest, row.former_rollout
        ),
    )


def _overviews(connection: Connection, wanted: Select[Any]) -> list[Overview]:
    found = connection.execute(wanted.order_by(rollouts.c.number.desc())).all()
    tallies = {row.number: [Counter[MemberState]() for _ in range(row.waves)] for row in found}
    m = members.c
    counted = select(m.rollout, m.wave, m.state, func.count()).where(m.rollout.in_(list(tallies)))
    for number, wave, state, count in connection.execute(counted.group_by(m.rollout, m.wave, m.state)):
        tallies[number][wave][MemberState(state)] = count
    return [Overview(_header(row), tuple(tallies[row.number])) for row in found]
