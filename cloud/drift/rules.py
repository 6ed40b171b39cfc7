"""What of a device's word is believed, and what it means. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cloud.drift.entities import HOUR_MS, BadDrift, DeviceDrift, DriftHour, JudgedHour, ModelDrift
from protos import topics
from protos.kit import differences, sketches
from protos.kit.differences import Thresholds
from protos.v1.sketches_pb2 import Drift, Reference, Sketch

MAX_INTEGER = 2**63 - 1
HOURS = 24
MAX_VARIANT_CHARACTERS = 100

Key = tuple[bytes, str]
"""A manifest's digest and the name of one of its variants."""


def check(drift: Drift) -> None:
    """Raise BadDrift that says which limit it breaks."""
    try:
        topics.checked_name(drift.slot, "slot")
        sketches.check(drift.sketch)
    except ValueError as error:
        raise BadDrift(str(error)) from error
    if (size := drift.ByteSize()) > sketches.MAX_BYTES:
        raise BadDrift(f"it has {size} bytes, at most {sketches.MAX_BYTES} are taken")
    if not drift.sketch.frames or len(drift.variant) > MAX_VARIANT_CHARACTERS:
        raise BadDrift("it speaks of no frames, or its variant's name is too long")


def judge(
    device: str, drift: Drift, *, named: tuple[str, int], reference: Sketch, before: DeviceDrift | None, now_ms: int,
    thresholds: Thresholds,
) -> DeviceDrift:  # fmt: skip
    """A device's new window beside the reference; it drifts since `before` did, if that was of the same model version.

    named: model and version, by the registry's word.
    """
    found = differences.difference(reference, drift.sketch)
    alarm = differences.alarm(found, thresholds)
    drifted = before.since_ms if before and before.manifest == drift.manifest else 0
    return DeviceDrift(
        device=device,
        slot=drift.slot,
        model=named[0],
        version=named[1],
        manifest=drift.manifest,
        variant=drift.variant,
        began_ms=min(drift.began_ms, MAX_INTEGER),
        ended_ms=min(drift.ended_ms, MAX_INTEGER),
        received_ms=now_ms,
        since_ms=(drifted or now_ms) if alarm else 0,
        alarm=alarm,
        difference=found,
        sketch=drift.sketch,
    )


def by_model(
    windows: Iterable[DeviceDrift], references: Mapping[Key, Sketch], thresholds: Thresholds
) -> list[ModelDrift]:
    """All windows of each model version together, by name and version. One without a reference is left out."""
    groups: dict[Key, list[DeviceDrift]] = {}
    for window in windows:
        groups.setdefault((window.manifest, window.variant), []).append(window)
    found = [_together(group, references[key], thresholds) for key, group in groups.items() if key in references]
    return sorted(found, key=lambda one: (one.model, one.version, one.variant))


def judge_hour(seen: DriftHour, reference: Sketch, thresholds: Thresholds) -> JudgedHour:
    """An hour beside the model's reference."""
    found = differences.difference(reference, seen.sketch)
    return JudgedHour(seen, found, differences.alarm(found, thresholds))


def first_kept_hour(now_ms: int, days: int) -> int:
    """Hours before this one, counted since 1970, are dropped when they are kept for `days` whole days."""
    return (now_ms // HOUR_MS // HOURS - days) * HOURS


def reference_of(references: Iterable[Reference], variant: str) -> Sketch | None:
    """The reference of one variant."""
    return next((one.sketch for one in references if one.variant == variant), None)


def _together(group: list[DeviceDrift], reference: Sketch, thresholds: Thresholds) -> ModelDrift:
    found = differences.difference(reference, sketches.added(window.sketch for window in group))
    first = group[0]
    return ModelDrift(
        model=first.model,
        version=first.version,
        variant=first.variant,
        devices=len(group),
        drifting=sum(bool(window.since_ms) for window in group),
        alarm=differences.alarm(found, thresholds),
        difference=found,
    )
