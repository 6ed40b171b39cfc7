"""What people and the controller do with rollouts: one method each, one transaction each.

A step of the controller writes rollouts, members and the deployments that follow from them in one transaction. It
begins from what is stored, so that it may be ended anywhere and begun again.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from cloud.fleet.service import Fleet
from cloud.foundation.database import Database, Transaction
from cloud.registry.entities import ModelVersion
from cloud.rollouts import rules, store, targets, waves
from cloud.rollouts.deployments import Deployments, Sign
from cloud.rollouts.entities import (
    ACTIVE,
    Abort,
    Candidate,
    Effect,
    Event,
    Held,
    Joined,
    Lease,
    LeaseLost,
    Member,
    Overview,
    Pause,
    Replaced,
    Request,
    Resume,
    Rollout,
    Started,
    State,
    Tick,
    UnknownRollout,
    Wish,
)

CLOCKS_APART_MS = 60_000
"""How far the clocks of two processes of the cloud may differ before a device that joins meanwhile is overlooked."""


@dataclass(frozen=True, slots=True)
class _Decision:
    """What becomes of a rollout in one step."""

    before: Rollout
    after: Rollout
    effects: Sequence[Effect]

    @property
    def is_news(self) -> bool:
        return self.after is not self.before or bool(self.effects)


@dataclass(frozen=True, slots=True)
class Owned:
    """How an owner begins a rollout: under an id of its own, so that it is begun once; in the place of these; by its
    lease, as long as that is the controller's.
    """

    rollout: str
    replaces: Sequence[str]
    lease: Lease


class Models(Protocol):
    """The registry, as far as a rollout needs it."""

    def get(self, model: str, version: int) -> ModelVersion:
        """One version of a model. Raises UnknownModel."""
        ...


def new_id() -> str:
    """An id that people can type."""
    return f"r-{secrets.token_hex(4)}"


class Rollouts:
    """All rollouts. May be used from any thread; several processes may share the database.

    deployment_days: how long a deployment may be started by its device.
    """

    def __init__(
        self,
        database: Database,
        registry: Models,
        fleet: Fleet,
        sign: Sign,
        deployment_days: int = 30,
        *,
        make_id: Callable[[], str] = new_id,
    ) -> None:
        self._database = database
        self._registry = registry
        self._fleet = fleet
        self._deployments = Deployments(fleet, sign, deployment_days)
        self._make_id = make_id
        self._read: dict[str, Rollout] = {}  # what was committed, by id: valid while its revision is the stored one

    # What people ask for.

    def create(self, request: Request, now_ms: int, owned: Owned | None = None) -> Rollout:
        """Begin a rollout to the devices that match now. Raises UnknownModel, NoTargets, BadWaves, LeaseLost."""
        version = self._registry.get(request.model, request.version)
        chosen = targets.choose(request, self._fleet.devices())
        rollout = _planned(owned.rollout if owned else self._make_id(), version, request, chosen, now_ms)
        held = [Held(target.device) for target in chosen if target.closed]
        with self._database.transaction() as transaction:
            if owned:
                _check_lease(transaction, owned.lease)
                if known := store.get(transaction, rollout.id):
                    return known
                for former in owned.replaces:
                    self._tell(transaction, _found(transaction, former), [Replaced(rollout.id)], now_ms)
            return self._tell(transaction, store.add(transaction, rollout), [*held, Started()], now_ms)

    def list(self, limit: int = 100) -> Sequence[Overview]:
        """The newest rollouts first, without their members."""
        with self._database.reading() as transaction:
            return store.overviews(transaction, limit)

    def standing(self, prefix: str) -> Sequence[Overview]:
        """Of the rollouts whose ids begin so those that are active, and the newest whatever became of it.

        The newest first, without their members: what ended long ago is not counted at each look.
        """
        with self._database.reading() as transaction:
            return store.standing(transaction, prefix)

    def counts(self) -> Mapping[State, int]:
        """How many rollouts are in which state; states that none is in are left out."""
        with self._database.reading() as transaction:
            return store.count_by_state(transaction)

    def get(self, rollout: str) -> Rollout:
        """One rollout. Raises UnknownRollout."""
        with self._database.reading() as transaction:
            return _found(transaction, rollout)

    def abort(self, rollout: str, now_ms: int) -> Rollout:
        """End it, and give everyone back what was before. Raises UnknownRollout, IllegalEvent."""
        return self.ask(rollout, Abort(), now_ms)

    def pause(self, rollout: str, now_ms: int) -> Rollout:
        """Begin no further wave until resumed. Raises UnknownRollout, IllegalEvent."""
        return self.ask(rollout, Pause(), now_ms)

    def resume(self, rollout: str, now_ms: int) -> Rollout:
        """Go on. Raises UnknownRollout, IllegalEvent."""
        return self.ask(rollout, Resume(), now_ms)

    def ask(self, rollout: str, wish: Wish, now_ms: int, lease: Lease | None = None) -> Rollout:
        """Tell a rollout a wish; a lease must still be the controller's.

        Raises UnknownRollout, IllegalEvent, LeaseLost.
        """
        with self._database.transaction() as transaction:
            _check_lease(transaction, lease)
            return self._tell(transaction, _found(transaction, rollout), [wish], now_ms)

    # What the controller does.

    def lead(self, owner: str, now_ms: int) -> Lease | None:
        """The lease to be the active controller, taken or kept; None: another has it."""
        with self._database.reading() as transaction:
            held = store.get_lease(transaction)
        if (wanted := rules.contend(held, owner, now_ms)) == held or wanted is None:
            return wanted
        with self._database.transaction() as transaction:
            lease = rules.contend(store.get_lease(transaction, lock=True), owner, now_ms)
            if lease:
                store.put_lease(transaction, lease)
        return lease

    def resign(self, lease: Lease) -> None:
        """Let another controller begin at once."""
        with self._database.transaction() as transaction:
            held = store.get_lease(transaction, lock=True)
            if held and held.token == lease.token:
                store.put_lease(transaction, replace(held, expires_ms=0))

    def step(self, now_ms: int, lease: Lease | None = None) -> bool:
        """One pass over all unfinished rollouts; whether anything has changed. Raises LeaseLost, Conflict.

        Without a lease the caller vouches that there is no other controller.
        """
        watching_ms = lease.since_ms if lease else 0
        with self._database.reading() as transaction:
            if not any(decision.is_news for decision in self._decisions(transaction, watching_ms, now_ms)):
                return False
        with self._database.transaction() as transaction:
            _check_lease(transaction, lease)
            for decision in self._decisions(transaction, watching_ms, now_ms):
                if decision.is_news:
                    self._write(transaction, decision, now_ms)
        return True

    def renew(self, now_ms: int, lease: Lease | None = None) -> int:
        """Sign deployments anew that have lived half their life, so that they never end; returns how many."""
        with self._database.transaction() as transaction:
            _check_lease(transaction, lease)
            return self._deployments.renew(transaction, now_ms)

    def _tell(self, transaction: Transaction, before: Rollout, events: Sequence[Event], now_ms: int) -> Rollout:
        after, effects = rules.decide_all(before, events, now_ms)
        return self._write(transaction, _Decision(before, after, effects), now_ms)

    def _decisions(self, transaction: Transaction, watching_ms: int, now_ms: int) -> Sequence[_Decision]:
        """What is to be done for each unfinished rollout, the newest first."""
        newer: dict[str, dict[str, str]] = {}
        closed = self._fleet.closed(transaction)
        decisions = []
        for header in store.unfinished(transaction):
            rollout = self._known(transaction, header)
            taken = newer.setdefault(rollout.slot, {})
            events = self._facts(transaction, rollout, taken, watching_ms, now_ms)
            joined = [event.device for event in events if isinstance(event, Joined)]
            events = [*events, *rules.care(rollout, joined, closed), Tick()]
            after, effects = rules.decide_all(rollout, events, now_ms)
            decisions.append(_Decision(rollout, after, effects))
            if rollout.state in ACTIVE:
                taken.update({device: rollout.id for device in after.members if device not in taken})
        self._read = {decision.before.id: decision.before for decision in decisions}
        return decisions

    def _known(self, transaction: Transaction, header: Rollout) -> Rollout:
        known = self._read.get(header.id)
        return known if known and known.revision == header.revision else store.with_members(transaction, header)

    def _facts(
        self, transaction: Transaction, rollout: Rollout, newer: Mapping[str, str], watching_ms: int, now_ms: int
    ) -> Sequence[Event]:
        standings = {standing.device: standing for standing in self._fleet.standings(transaction, rollout.id)}
        events = rules.facts(rollout, standings, newer, watching_ms, now_ms)
        if rollout.state in ACTIVE:
            for device, labels in self._fleet.labelled_since(
                transaction, rollout.created_ms - CLOCKS_APART_MS, rollout.slot
            ):
                if device not in newer and device not in rollout.members and waves.matches(rollout.selector, labels):
                    events.append(Joined(device))
        return events

    def _write(self, transaction: Transaction, decision: _Decision, now_ms: int) -> Rollout:
        """Carry out the effects, tell the rollout of them, and store it."""
        after = decision.after
        given = [self._deployments.carry_out(transaction, after, effect, now_ms) for effect in decision.effects]
        rollout, _ = rules.decide_all(after, [event for event in given if event], now_ms)
        store.save(transaction, decision.before, rollout)
        return replace(rollout, revision=decision.before.revision + 1)


def _planned(name: str, version: ModelVersion, request: Request, chosen: Sequence[Candidate], now_ms: int) -> Rollout:
    """The rollout before anything has happened to it."""
    planned = waves.plan(chosen, request.waves)
    return Rollout(
        id=name,
        model=version.model,
        version=version.version,
        manifest=version.manifest_digest,
        slot=request.slot,
        selector=request.selector,
        gates=request.gates,
        waves=len(planned),
        members={device: Member(device, wave) for wave, of_wave in enumerate(planned) for device in of_wave},
        created_ms=now_ms,
    )


def _found(transaction: Transaction, rollout: str) -> Rollout:
    if (found := store.get(transaction, rollout)) is None:
        raise UnknownRollout(f"there is no rollout {rollout!r}")
    return found


def _check_lease(transaction: Transaction, lease: Lease | None) -> None:
    if lease is None:
        return
    held = store.get_lease(transaction, lock=True)
    if held is None or held.token != lease.token:
        raise LeaseLost(f"controller {held.owner if held else 'nobody'} is active now")
