"""Takes the devices' sketches, and says which models drift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cloud.drift import rules, store, store_hours
from cloud.drift.entities import HOUR_MS, BadDrift, DeviceDrift, JudgedHour, ModelDrift, Stretch, TooMuch
from cloud.foundation.database import Database
from cloud.registry.entities import ModelVersion, UnknownModel
from protos.kit.differences import Thresholds
from protos.v1.sketches_pb2 import Drift, Sketch

MOST_HOURS = 10_000


class Models(Protocol):
    """The registry, as far as drift needs it."""

    def by_digest(self, manifest_digest: bytes) -> ModelVersion:
        """The version whose manifest has this digest. Raises UnknownModel."""
        ...


class Drifts:
    """All devices' last windows, and the account of each hour.

    May be used from any thread; several processes may share the database.
    """

    def __init__(self, database: Database, models: Models, thresholds: Thresholds) -> None:
        self._database = database
        self._models = models
        self._thresholds = thresholds
        self._references: dict[rules.Key, tuple[str, int, Sketch]] = {}  # a version never changes

    def take(self, device: str, drift: Drift, now_ms: int) -> None:
        """Keep a device's newest window. Raises BadDrift for what cannot be believed or compared."""
        rules.check(drift)
        model, version, reference = self._reference((drift.manifest, drift.variant))
        with self._database.transaction() as transaction:
            before = store.get(transaction, device, drift.slot)
            window = rules.judge(
                device,
                drift,
                named=(model, version),
                reference=reference,
                before=before,
                now_ms=now_ms,
                thresholds=self._thresholds,
            )
            if store.put(transaction, window):
                store_hours.add(transaction, now_ms // HOUR_MS, window)

    def devices(self, model: str | None = None, device: str | None = None) -> Sequence[DeviceDrift]:
        """The last window of each device, by device."""
        with self._database.reading() as transaction:
            return store.find(transaction, model, device)

    def models(self, windows: Sequence[DeviceDrift]) -> Sequence[ModelDrift]:
        """These windows together, for each model version."""
        keys = {(window.manifest, window.variant) for window in windows}
        references = {key: self._reference(key)[2] for key in keys}
        return rules.by_model(windows, references, self._thresholds)

    def hours(self, stretch: Stretch) -> Sequence[JudgedHour]:
        """The account of a stretch of time beside the models' references, oldest first. Raises TooMuch."""
        with self._database.reading() as transaction:
            found = store_hours.find(transaction, stretch, MOST_HOURS + 1)
        if len(found) > MOST_HOURS:
            raise TooMuch(f"that is more than {MOST_HOURS} entries: ask for a shorter time, or for one model")
        references = {key: self._reference(key)[2] for key in {(one.manifest, one.variant) for one in found}}
        return [rules.judge_hour(one, references[one.manifest, one.variant], self._thresholds) for one in found]

    def expire(self, now_ms: int, days: int) -> int:
        """Drop the account of hours more than `days` whole days ago; returns how many rows."""
        with self._database.transaction() as transaction:
            return store_hours.expire(transaction, rules.first_kept_hour(now_ms, days))

    def _reference(self, key: rules.Key) -> tuple[str, int, Sketch]:
        if key not in self._references:
            manifest, variant = key
            try:
                found = self._models.by_digest(manifest)
            except UnknownModel as error:
                raise BadDrift(f"no model version has the manifest {manifest.hex()[:12]}") from error
            reference = rules.reference_of(found.parsed().references, variant)
            if reference is None:
                raise BadDrift(f"{found.model} {found.version} has no reference for variant {variant[:63]!r}")
            self._references[key] = found.model, found.version, reference
        return self._references[key]
