"""What may become a model version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cloud.registry.entities import Unpublishable
from protos.kit.patches import bytes_of
from protos.topics import MAX_ARTIFACT_BYTES, MAX_MANIFEST_BYTES, checked_name
from protos.v1.manifest_pb2 import Artifact, Manifest, Patch

MOST_SHARE = 2 / 3
"""Of a whole file's transfer, for all its patches together: published beside the file, they are paid for once by the
cloud, and save each device that uses one at least a third."""

ENVELOPE_BYTES = 512
"""What signatures add to a manifest, with room for more of them."""


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


def affordable(artifact: Artifact, patches: Iterable[Patch]) -> list[Patch]:
    """The patches that are worth publishing beside the whole file: the smallest, as many as MOST_SHARE allows."""
    left, chosen = MOST_SHARE * bytes_of(artifact), list[Patch]()
    for patch in sorted(patches, key=bytes_of):
        left -= bytes_of(patch)
        if left < 0:
            break
        chosen.append(patch)
    return chosen


def add_patches(manifest: Manifest, patches: Mapping[str, Sequence[Patch]]) -> None:
    """Add to each variant's artifact its patches, by the variant's name, until the manifest is full.

    A model never becomes unpublishable by them.
    """
    for variant in manifest.variants:
        for patch in patches[variant.name]:
            variant.artifact.patches.append(patch)
            if manifest.ByteSize() + ENVELOPE_BYTES > MAX_MANIFEST_BYTES:
                del variant.artifact.patches[-1]
                return
