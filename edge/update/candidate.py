"""A model on this device between its arrival and its use: what its manifest promises, and how it is to be run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from edge.inference.entities import Blueprint
from edge.models.entities import Installed
from edge.update import deployment
from edge.update.entities import Target
from edge.update.variants import Plan, Unusable
from protos.v1.manifest_pb2 import Manifest, Variant
from protos.v1.sketches_pb2 import Reference


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model on this device that is about to be proved. payload: its manifest's bytes; empty: it lies in a place.

    plan: the variants that the one to run is still to be chosen from, or was chosen from; None in a place.
    """

    manifest: Manifest
    variant: Variant
    files: Mapping[bytes, Path]
    payload: bytes = b""
    plan: Plan | None = None

    @property
    def file(self) -> Path:
        """Of the variant."""
        return self.files[self.variant.artifact.digest]


def understood(payload: bytes, target: Target) -> Manifest:
    """The manifest in `payload`. Raises Unusable if it is none, or not that of `target`."""
    try:
        manifest = Manifest.FromString(payload)
        deployment.check_manifest(target, manifest)
    except (DecodeError, ValueError) as error:
        raise Unusable(str(error)) from error
    return manifest


def blueprint(installed: Installed, threads: int, nice: int, slot: str) -> Blueprint:
    """How an installed model is run in a slot, with so many threads and at such a priority."""
    manifest, variant = installed.manifest, installed.variant
    return Blueprint(
        file=installed.path,
        variant=variant,
        preprocessing=manifest.preprocessing,
        threads=threads,
        manifest=installed.digest,
        model=manifest.model,
        version=manifest.version,
        labels=tuple(manifest.labels),
        reference=_reference(manifest, variant.name),
        nice=nice,
        slot=slot,
    )


def _reference(manifest: Manifest, variant: str) -> Reference:
    return next((found for found in manifest.references if found.variant == variant), Reference())
