"""What may become a model version."""

from __future__ import annotations

from collections.abc import Mapping

from cloud.registry.entities import Unpublishable
from protos.topics import MAX_ARTIFACT_BYTES, MAX_MANIFEST_BYTES, checked_name
from protos.v1.manifest_pb2 import Manifest


def check_draft(draft: Manifest, files: Mapping[str, bytes]) -> None:
    """Raise Unpublishable unless the draft's name can stand in a topic and each variant has exactly one usable file."""
    try:
        checked_name(draft.model, "model")
    except ValueError as error:
        raise Unpublishable(str(error)) from error
    names = [variant.name for variant in draft.variants]
    if not names or "" in names or len(set(names)) < len(names) or set(names) != set(files):
        raise Unpublishable(
            f"model {draft.model!r} has the variants {names} and files for {sorted(files)}: "
            "each variant needs a name of its own and a file"
        )
    for name, data in files.items():
        if not 0 < len(data) <= MAX_ARTIFACT_BYTES:
            raise Unpublishable(f"variant {name!r} has {len(data)} bytes: allowed are 1 to {MAX_ARTIFACT_BYTES}")
    for place, vector in enumerate(draft.golden):
        unknown = {expected.variant for expected in vector.expected} - set(names)
        if unknown:
            raise Unpublishable(f"golden vector {place} expects outputs of {sorted(unknown)}: there are only {names}")


def check_size(manifest: Manifest, signed: bytes) -> None:
    """Raise Unpublishable unless the signed manifest fits into one message."""
    if len(signed) <= MAX_MANIFEST_BYTES:
        return
    golden = sum(vector.ByteSize() for vector in manifest.golden)
    chunks = sum(variant.artifact.ByteSize() for variant in manifest.variants)
    raise Unpublishable(
        f"the manifest of {manifest.model!r} has {len(signed)} bytes, allowed are {MAX_MANIFEST_BYTES}: "
        f"its {len(manifest.golden)} golden vectors take {golden}, its variants' lists of chunks {chunks}. "
        "Use fewer golden vectors or a smaller model"
    )
