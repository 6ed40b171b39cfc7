"""What people do with challengers, and what devices say of them.

A challenger is a deployment of its own, in a slot of its own beside the champion's: signed, with a generation that only
grows, published and renewed as every other. Nothing of the champion's deployment or of a rollout changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from cloud.fleet.entities import Desired, Slot
from cloud.fleet.service import Fleet
from cloud.foundation.database import Database, Transaction
from cloud.registry.entities import ModelVersion, UnknownModel
from cloud.shadow import rules, store
from cloud.shadow.entities import Challenge, Request, Standing
from protos import topics
from protos.kit.envelope import DEPLOYMENT
from protos.v1.deployment_pb2 import Deployment
from protos.v1.manifest_pb2 import Signed
from protos.v1.sketches_pb2 import Comparison

DAY_MS = 24 * 3600 * 1000

Sign = Callable[[str, bytes], Signed]


class Models(Protocol):
    """The registry, as far as challengers need it."""

    def get(self, model: str, version: int) -> ModelVersion:
        """One version of a model. Raises UnknownModel."""
        ...

    def by_digest(self, manifest_digest: bytes) -> ModelVersion:
        """The version whose manifest has this digest. Raises UnknownModel."""
        ...


class Shadows:
    """All challengers. May be used from any thread; several processes may share the database.

    days: how long a deployment may be started by its device.
    """

    def __init__(self, database: Database, models: Models, fleet: Fleet, sign: Sign, days: int = 30) -> None:
        self._database = database
        self._models = models
        self._fleet = fleet
        self._sign = sign
        self._lifetime_ms = days * DAY_MS

    def start(self, request: Request, now_ms: int) -> Sequence[Standing]:
        """Have the version run beside the champion on all devices meant that have reported by now.

        Where another challenger runs, it takes its place. Raises UnknownModel, NoDevices.
        """
        version = self._models.get(request.model, request.version)
        found = rules.targets(request, self._fleet.devices())
        with self._database.transaction() as transaction:
            for device in found:
                wanted = Challenge(
                    device=device,
                    slot=request.slot,
                    generation=0,
                    model=version.model,
                    version=version.version,
                    manifest=version.manifest_digest,
                    share=request.share,
                    started_ms=now_ms,
                )
                generation = self._deploy(transaction, wanted, now_ms)
                store.put(transaction, replace(wanted, generation=generation))
        return [one for one in self.standings(version.model, version.version) if one.challenge.device in set(found)]

    def stop(self, request: Request, now_ms: int) -> Sequence[Standing]:
        """Have the version run as challenger no more on the devices meant. Raises NoDevices if it does on none."""
        labels = {device.id: device.labels for device in self._fleet.devices()}
        with self._database.transaction() as transaction:
            meant = rules.running(request, store.find(transaction, request.model, request.version), labels)
            for one in meant:
                self._deploy(transaction, replace(one, manifest=b""), now_ms)
                store.put(transaction, replace(one, stopped_ms=now_ms))
        stopped = {one.device for one in meant}
        return [one for one in self.standings(request.model, request.version) if one.challenge.device in stopped]

    def take(self, device: str, comparison: Comparison, now_ms: int) -> None:
        """Keep a device's newest word on its challenger. Raises BadComparison; of a former challenger it is dropped."""
        rules.check(comparison)
        with self._database.transaction() as transaction:
            challenge = store.get(transaction, device, comparison.slot)
            if challenge and rules.is_of(challenge, comparison):
                store.put_comparison(transaction, challenge, comparison, now_ms)

    def standings(self, model: str | None = None, version: int | None = None) -> Sequence[Standing]:
        """The newest challenger of each device, by device."""
        with self._database.reading() as transaction:
            found = store.find(transaction, model, version)
        slots = self._slots()
        return [
            rules.standing(
                one,
                slots.get((one.device, topics.shadow_slot(one.slot))),
                self._named(one.comparison.champion) if one.comparison.champion else None,
            )
            for one in found
        ]

    def _slots(self) -> Mapping[tuple[str, str], Slot]:
        return {
            (device.id, name): slot
            for device in self._fleet.devices()
            for name, slot in device.slots.items()
            if topics.is_shadow(name)
        }

    def _named(self, manifest: bytes) -> tuple[str, int] | None:
        try:
            found = self._models.by_digest(manifest)
        except UnknownModel:
            return None
        return found.model, found.version

    def _deploy(self, transaction: Transaction, challenge: Challenge, now_ms: int) -> int:
        """Give the device the challenger, none where its manifest is empty; returns the generation."""
        slot, runs = topics.shadow_slot(challenge.slot), bool(challenge.manifest)

        def build(generation: int) -> Desired:
            deployment = Deployment(
                device=challenge.device,
                slot=slot,
                model=challenge.model if runs else "",
                version=challenge.version if runs else 0,
                manifest=challenge.manifest,
                generation=generation,
                issued_ms=now_ms,
                expires_ms=now_ms + self._lifetime_ms,
                shadow_share=challenge.share if runs else 0.0,
            )
            return Desired(
                device=challenge.device,
                slot=slot,
                generation=generation,
                model=deployment.model,
                version=deployment.version,
                manifest=challenge.manifest,
                rollout="",
                signed=self._sign(DEPLOYMENT, deployment.SerializeToString()).SerializeToString(),
                issued_ms=now_ms,
            )

        return self._fleet.desire(transaction, challenge.device, slot, build).generation
