"""Patches: two kinds, made when a version is registered, published only where they are worth it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from cloud.foundation.database import Database
from cloud.registry import patches, rules
from cloud.registry.blobs import Blobs
from cloud.registry.entities import artifacts, described
from cloud.registry.service import Registry
from protos.kit import envelope
from protos.kit.patches import as_artifact, bytes_of
from protos.topics import MAX_DICTIONARY_BYTES, MAX_MANIFEST_BYTES
from protos.v1.manifest_pb2 import (
    COMPRESSION_NONE,
    PATCH_KIND_DICTIONARY,
    PATCH_KIND_DIFFERENCE,
    Artifact,
    ChunkRef,
    GoldenVector,
    Manifest,
    Patch,
    Variant,
)

KEY = Ed25519PrivateKey.generate()
NOW_MS = 1_700_000_000_000
WEIGHTS = os.urandom(20_000)


def nudged(data: bytes, step: int = 1) -> bytes:
    """Each value a little higher: what more training does."""
    return (np.frombuffer(data, np.uint8) + np.uint8(step)).tobytes()


def moved(data: bytes) -> bytes:
    """The same values behind something new: what an additional output does."""
    return os.urandom(100) + data


def registry_in(folder: Path, patched_versions: int = 3) -> Registry:
    database = Database(f"sqlite:///{folder}/test.db")
    database.create()
    sign = lambda purpose, payload: envelope.sign(purpose, payload, KEY)  # noqa: E731
    return Registry(database, Blobs(folder / "blobs"), sign, patched_versions=patched_versions)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return registry_in(tmp_path)


def draft(*variants: str) -> Manifest:
    return Manifest(model="digits", variants=[Variant(name=name) for name in variants or ("int8",)])


def registered(registry: Registry, data: bytes) -> Artifact:
    return registry.register(draft(), {"int8": data}, NOW_MS).parsed().variants[0].artifact


def bases(artifact: Artifact) -> set[bytes]:
    return {patch.base for patch in artifact.patches}


def name(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def test_values_that_change_by_little_in_their_places_are_sent_as_differences() -> None:
    patch, travelling = patches.shortest(WEIGHTS, nudged(WEIGHTS))
    assert patch.kind == PATCH_KIND_DIFFERENCE
    assert len(travelling) < 100


def test_values_that_move_are_pointed_at() -> None:
    patch, travelling = patches.shortest(WEIGHTS, moved(WEIGHTS))
    assert patch.kind == PATCH_KIND_DICTIONARY
    assert len(travelling) < 200


def test_files_over_the_limit_for_dictionaries_have_differences_only() -> None:
    data = bytes(MAX_DICTIONARY_BYTES + 1)
    assert patches.shortest(data, data)[0].kind == PATCH_KIND_DIFFERENCE


@given(st.binary(max_size=200), st.binary(min_size=1, max_size=200))
def test_a_patch_names_its_base_and_travels_as_what_it_is(base: bytes, data: bytes) -> None:
    patch, travelling = patches.shortest(base, data)
    artifact = as_artifact(patch)
    assert patch.base == name(base)
    assert (artifact.digest, artifact.size, artifact.compression) == (
        name(travelling), len(travelling), COMPRESSION_NONE,
    )  # fmt: skip
    assert [chunk.digest for chunk in artifact.chunks] == [name(travelling)]


sizes = st.integers(1, 1000)


def sized(size: int, base: int = 0) -> Patch:
    return Patch(base=bytes([base]) * 32, digest=bytes(32), chunks=[ChunkRef(digest=bytes(32), size=size)])


@given(sizes, st.lists(sizes, max_size=6))
def test_patches_together_cost_the_cloud_at_most_two_thirds_of_the_file(whole: int, costs: list[int]) -> None:
    artifact = Artifact(chunks=[ChunkRef(size=whole)])
    chosen = [bytes_of(patch) for patch in rules.affordable(artifact, map(sized, costs))]
    assert sum(chosen) <= rules.MOST_SHARE * whole
    assert chosen == sorted(costs)[: len(chosen)], "the smallest first"
    left = sorted(costs)[len(chosen) :]
    assert not left or sum(chosen) + left[0] > rules.MOST_SHARE * whole, "as many as there is room for"


def test_a_version_has_patches_from_the_last_ones_and_each_can_be_fetched(registry: Registry) -> None:
    files = [nudged(WEIGHTS, step) for step in range(5)]
    last = [registered(registry, data) for data in files][-1]
    assert bases(last) == {name(data) for data in files[1:4]}
    for patch in last.patches:
        travelling = b"".join(registry.chunk(patch.digest, index) for index in range(len(patch.chunks)))
        assert name(travelling) == patch.digest


def test_a_patch_is_among_what_devices_may_need(registry: Registry) -> None:
    registered(registry, WEIGHTS)
    manifest = registry.register(draft(), {"int8": nudged(WEIGHTS)}, NOW_MS).parsed()
    (variant,) = manifest.variants
    assert artifacts(manifest) == [variant.artifact, as_artifact(variant.artifact.patches[0])]


def test_each_variant_is_patched_from_its_own_kind(registry: Registry) -> None:
    other = os.urandom(20_000)
    registry.register(draft("int8", "float32"), {"int8": WEIGHTS, "float32": other}, NOW_MS)
    files = {"int8": nudged(WEIGHTS), "float32": nudged(other)}
    manifest = registry.register(draft("int8", "float32"), files, NOW_MS).parsed()
    assert [bases(variant.artifact) for variant in manifest.variants] == [{name(WEIGHTS)}, {name(other)}]


def test_what_has_nothing_in_common_has_no_patch(registry: Registry) -> None:
    registered(registry, WEIGHTS)
    assert not registered(registry, os.urandom(20_000)).patches


def test_a_file_has_no_patch_from_itself_and_only_one_from_another(registry: Registry) -> None:
    for data in (WEIGHTS, nudged(WEIGHTS), WEIGHTS):
        registered(registry, data)
    assert [patch.base for patch in registered(registry, nudged(WEIGHTS)).patches] == [name(WEIGHTS)]


def test_another_models_files_are_no_bases(registry: Registry) -> None:
    registered(registry, WEIGHTS)
    other = Manifest(model="cats", variants=[Variant(name="int8")])
    manifest = registry.register(other, {"int8": nudged(WEIGHTS)}, NOW_MS).parsed()
    assert not manifest.variants[0].artifact.patches


def test_patches_can_be_done_without(tmp_path: Path) -> None:
    registry = registry_in(tmp_path, patched_versions=0)
    registered(registry, WEIGHTS)
    assert not registered(registry, nudged(WEIGHTS)).patches


@pytest.mark.parametrize("gone", [True, False])
def test_an_earlier_file_that_is_damaged_is_no_base_and_no_obstacle(
    registry: Registry, tmp_path: Path, *, gone: bool
) -> None:
    registered(registry, WEIGHTS)
    blob = next(path for path in (tmp_path / "blobs").rglob("*") if path.is_file())
    blob.write_bytes(bytes(20_000))
    if gone:
        blob.unlink()
    assert not registered(registry, nudged(WEIGHTS)).patches


@pytest.mark.parametrize("room", [0, 500, 900, 3000])
def test_a_full_manifest_has_fewer_patches_and_is_published_all_the_same(registry: Registry, room: int) -> None:
    for step in range(3):
        registered(registry, nudged(WEIGHTS, step))
    given = draft()
    given.golden.append(GoldenVector(frame=bytes(MAX_MANIFEST_BYTES - 400 - room)))
    version = registry.register(given, {"int8": nudged(WEIGHTS, 3)}, NOW_MS)
    assert len(version.signed) <= MAX_MANIFEST_BYTES
    assert len(version.parsed().variants[0].artifact.patches) == {0: 0, 500: 2, 900: 3, 3000: 3}[room]


def test_people_are_shown_what_a_device_fetches(registry: Registry) -> None:
    registered(registry, WEIGHTS)
    version = registry.register(draft(), {"int8": nudged(WEIGHTS)}, NOW_MS)
    (variant,) = described(version)["variants"]  # type: ignore[misc]
    assert variant["transfer"] == bytes_of(version.parsed().variants[0].artifact)  # type: ignore[unreachable]
    assert [patch["base"] for patch in variant["patches"]] == [name(WEIGHTS).hex()]
    assert variant["patches"][0]["transfer"] < 100
