"""A model version, and what can be wrong with one."""

from __future__ import annotations

from dataclasses import dataclass

from protos.kit.patches import as_artifact, bytes_of
from protos.v1.manifest_pb2 import Artifact, Manifest, Variant

MAIN_VARIANT = "int8"
"""The variant a model version is shown by; the first one where there is no such."""


class UnknownModel(LookupError):
    """No such model or version is registered; the message says which there are."""


class UnknownArtifact(LookupError):
    """No registered model version has this artifact or this chunk."""


class Unpublishable(ValueError):
    """The draft or a file of it cannot become a model version; the message says why. Nothing was registered."""


class DamagedBlob(Exception):
    """A stored file is not what was stored; restore the blob folder, or register the file again."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One registered version of a model."""

    model: str
    version: int
    manifest_digest: bytes
    """SHA-256 of `manifest`: the version's identity everywhere."""
    manifest: bytes
    """A serialized Manifest, the signed payload."""
    signed: bytes
    """A serialized Signed over `manifest`, as devices receive it."""
    created_ms: int

    def parsed(self) -> Manifest:
        """The manifest as a message."""
        return Manifest.FromString(self.manifest)


def artifacts(manifest: Manifest) -> list[Artifact]:
    """Every artifact that a device may need for this model version, the patches to it among them."""
    files = [variant.artifact for variant in manifest.variants]
    return [*files, *(as_artifact(patch) for file in files for patch in file.patches)]


def described(version: ModelVersion) -> dict[str, object]:
    """A model version as API and commands show it. Digests in hex, sizes in bytes, accuracies as shares 0 to 1."""
    manifest = version.parsed()
    main = next((variant for variant in manifest.variants if variant.name == MAIN_VARIANT), manifest.variants[0])
    metrics = {metric.name: metric.value for metric in manifest.metrics}
    lineage = manifest.lineage
    return {
        "model": version.model,
        "version": version.version,
        "digest": main.artifact.digest.hex(),
        "manifest": version.manifest_digest.hex(),
        "bytes": main.artifact.size,
        "accuracy_float": metrics.get("accuracy_float"),
        "accuracy_int8": metrics.get("accuracy_int8"),
        "created_ms": version.created_ms,
        "variants": [_described_variant(variant) for variant in manifest.variants],
        "lineage": {
            "dataset": lineage.dataset,
            "dataset_digest": lineage.dataset_digest.hex(),
            "code_version": lineage.code_version,
            "training_run": lineage.training_run,
            "parameters": dict(lineage.parameters),
            "restarts": lineage.restarts,
        },
    }


def _described_variant(variant: Variant) -> dict[str, object]:
    artifact = variant.artifact
    return {
        "name": variant.name,
        "accuracy": variant.accuracy or None,
        "digest": artifact.digest.hex(),
        "bytes": artifact.size,
        "chunks": len(artifact.chunks),
        "transfer": bytes_of(artifact),
        "patches": [{"base": patch.base.hex(), "transfer": bytes_of(patch)} for patch in artifact.patches],
    }
