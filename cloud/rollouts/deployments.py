"""What members are given, and given back: signed deployments, each a new generation, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cloud.fleet.entities import Desired
from cloud.fleet.service import Fleet
from cloud.foundation.database import Transaction
from cloud.rollouts import rules, store
from cloud.rollouts.entities import (
    ACTIVE,
    Deploy,
    Effect,
    Former,
    Given,
    Member,
    Restore,
    Rollout,
    State,
)
from protos.kit.envelope import DEPLOYMENT
from protos.v1.deployment_pb2 import Deployment
from protos.v1.manifest_pb2 import Signed

DAY_MS = 24 * 3600 * 1000
RENEWED_AT_ONCE = 500

Sign = Callable[[str, bytes], Signed]


class Deployments:
    """Carries out a rollout's effects. Deployments may be started by their devices for `days` days."""

    def __init__(self, fleet: Fleet, sign: Sign, days: int) -> None:
        self._fleet = fleet
        self._sign = sign
        self._lifetime_ms = days * DAY_MS

    def carry_out(self, transaction: Transaction, rollout: Rollout, effect: Effect, now_ms: int) -> Given | None:
        """Write the deployment that an effect asks for; what a rollout must be told of it."""
        match effect:
            case Deploy(device):
                former = _former(self._fleet.desired_in(transaction, device, rollout.slot))
                wanted = Former(0, rollout.model, rollout.version, rollout.manifest, rollout.id)
                new = self._desire(transaction, device, rollout.slot, wanted, now_ms)
                return Given(device, new.generation, former)
            case Restore(device):
                self._restore(transaction, rollout, rollout.members[device], now_ms)
                return None

    def _restore(self, transaction: Transaction, rollout: Rollout, member: Member, now_ms: int) -> None:
        """Unless the device has been given something else since: then that is not ours to take away."""
        desired = self._fleet.desired_in(transaction, member.device, rollout.slot)
        if desired is None or desired.manifest != rollout.manifest:
            return
        if desired.rollout != rollout.id and store.state_of(transaction, desired.rollout) in ACTIVE:
            return

        def given_by(former: Former) -> tuple[State, Member] | None:
            found = store.get_member(transaction, former.rollout, member.device)
            return found if found and found[1].generation == former.generation else None

        former = replace(rules.origin(member.former, given_by), rollout=rollout.id)
        self._desire(transaction, member.device, rollout.slot, former, now_ms)

    def _desire(self, transaction: Transaction, device: str, slot: str, wanted: Former, now_ms: int) -> Desired:
        def build(generation: int) -> Desired:
            return self._signed(
                Desired(
                    device=device,
                    slot=slot,
                    generation=generation,
                    model=wanted.model,
                    version=wanted.version,
                    manifest=wanted.manifest,
                    rollout=wanted.rollout,
                    signed=b"",
                    issued_ms=now_ms,
                )
            )

        return self._fleet.desire(transaction, device, slot, build)

    def _renewed(self, old: Desired, now_ms: int) -> Desired:
        """The same deployment, whatever it says, from now on."""
        deployment = Deployment.FromString(Signed.FromString(old.signed).payload)
        deployment.issued_ms, deployment.expires_ms = now_ms, now_ms + self._lifetime_ms
        signed = self._sign(DEPLOYMENT, deployment.SerializeToString())
        return replace(old, issued_ms=now_ms, signed=signed.SerializeToString(), published=False)

    def _signed(self, desired: Desired) -> Desired:
        deployment = Deployment(
            device=desired.device,
            slot=desired.slot,
            model=desired.model,
            version=desired.version,
            manifest=desired.manifest,
            generation=desired.generation,
            issued_ms=desired.issued_ms,
            expires_ms=desired.issued_ms + self._lifetime_ms,
            rollout=desired.rollout,
        )
        signed = self._sign(DEPLOYMENT, deployment.SerializeToString())
        return replace(desired, signed=signed.SerializeToString(), published=False)

    def renew(self, transaction: Transaction, now_ms: int) -> int:
        """Sign the oldest deployments anew that have lived half their life, or that a former key signed.

        Returns how many.
        """

        def sign(old: Desired) -> Desired:
            return self._renewed(old, now_ms)

        oldest = self._fleet.oldest(transaction)
        present = _keys(self._sign(DEPLOYMENT, b"").SerializeToString())
        is_former = oldest is not None and not present & _keys(oldest.signed)
        before_ms = now_ms if is_former else now_ms - self._lifetime_ms // 2
        return self._fleet.renew(transaction, before_ms, RENEWED_AT_ONCE, sign)


def _keys(signed: bytes) -> set[str]:
    return {signature.key_id for signature in Signed.FromString(signed).signatures}


def _former(desired: Desired | None) -> Former:
    if desired is None:
        return Former()
    return Former(desired.generation, desired.model, desired.version, desired.manifest, desired.rollout)
