"""Model versions: numbered without gaps, immutable, complete or not there at all."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.foundation.database import Database
from cloud.registry.blobs import Blobs
from cloud.registry.entities import DamagedBlob, UnknownArtifact, UnknownModel, Unpublishable, described
from cloud.registry.service import Registry
from protos.kit import envelope
from protos.topics import MAX_CHUNK_BYTES, MAX_MANIFEST_BYTES
from protos.v1.manifest_pb2 import Expected, GoldenVector, Lineage, Manifest, Metric, Signed, Variant

KEY = Ed25519PrivateKey.generate()
NOW_MS = 1_700_000_000_000


def sign(purpose: str, payload: bytes) -> Signed:
    return envelope.sign(purpose, payload, KEY)


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
def registry(database: Database, blobs: Path) -> Registry:
    return Registry(database, Blobs(blobs), sign)


def draft(model: str = "digits", *variants: str) -> Manifest:
    return Manifest(
        model=model,
        variants=[Variant(name=name) for name in variants or ("int8",)],
        metrics=[Metric(name="accuracy_int8", value=0.98), Metric(name="accuracy_float", value=0.985)],
        lineage=Lineage(dataset="digits", dataset_digest=b"\1" * 32, parameters={"epochs": "3"}),
    )


def test_versions_of_a_model_count_from_one_without_gaps(registry: Registry) -> None:
    numbers = [registry.register(draft(), {"int8": os.urandom(10)}, NOW_MS).version for _ in range(3)]
    assert numbers == [1, 2, 3]
    assert registry.register(draft("other"), {"int8": b"x"}, NOW_MS).version == 1


def test_versions_registered_at_the_same_moment_each_get_a_number(registry: Registry) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = threads.map(lambda n: registry.register(draft(), {"int8": b"same" * (n % 2 + 1)}, NOW_MS), range(24))
    assert sorted(version.version for version in made) == list(range(1, 25))


def test_a_registered_version_is_found_by_number_by_name_and_by_digest(registry: Registry) -> None:
    version = registry.register(draft(), {"int8": b"model"}, NOW_MS)
    assert registry.get("digits", 1) == version
    assert registry.latest("digits") == version
    assert registry.by_digest(version.manifest_digest) == version
    assert list(registry.list()) == list(registry.list("digits")) == [version]
    assert list(registry.list("other")) == []


def test_its_signature_is_by_the_key_for_manifests_over_the_manifest(registry: Registry) -> None:
    version = registry.register(draft(), {"int8": b"model"}, NOW_MS)
    signed = envelope.parse(registry.signed_manifest(version.manifest_digest))
    keys = {envelope.key_id(KEY.public_key()): KEY.public_key()}
    payload = envelope.verify(envelope.MANIFEST, signed, keys)
    assert hashlib.sha256(payload).digest() == version.manifest_digest
    manifest = Manifest.FromString(payload)
    assert (manifest.model, manifest.version, manifest.created_ms) == ("digits", 1, NOW_MS)


def test_its_chunks_are_the_file(registry: Registry) -> None:
    data = os.urandom(100_000) + bytes(500_000) + os.urandom(100_000)
    artifact = registry.register(draft(), {"int8": data}, NOW_MS).parsed().variants[0].artifact
    assert registry.artifact(artifact.digest) == artifact
    chunks = [registry.chunk(artifact.digest, index) for index in range(len(artifact.chunks))]
    assert len(chunks) > 1
    assert zstandard.ZstdDecompressor().decompress(b"".join(chunks)) == data


def test_a_file_that_is_registered_again_is_stored_once_and_travels_alike(registry: Registry, blobs: Path) -> None:
    one, two = (registry.register(draft(), {"int8": b"model" * 1000}, NOW_MS).parsed() for _ in range(2))
    assert one.variants[0].artifact == two.variants[0].artifact
    assert len([path for path in blobs.rglob("*") if path.is_file()]) == 1


def test_the_draft_is_left_as_it_was(registry: Registry) -> None:
    given = draft()
    registry.register(given, {"int8": b"model"}, NOW_MS)
    assert given == draft()


@pytest.mark.parametrize(
    ("model", "variants", "files", "complaint"),
    [
        ("Digits!", ("int8",), {"int8": b"x"}, "'Digits!' is not a name"),
        ("digits", ("int8", "float32"), {"int8": b"x"}, "each variant needs a name of its own and a file"),
        ("digits", ("int8",), {"int8": b"x", "float32": b"x"}, "each variant needs"),
        ("digits", ("int8", "int8"), {"int8": b"x"}, "each variant needs"),
        ("digits", ("int8",), {"int8": b""}, "variant 'int8' has 0 bytes"),
    ],
)
def test_an_incomplete_draft_is_refused(
    registry: Registry, model: str, variants: tuple[str, ...], files: dict[str, bytes], complaint: str
) -> None:
    with pytest.raises(Unpublishable, match=complaint):
        registry.register(draft(model, *variants), files, NOW_MS)


def test_a_golden_vector_for_a_variant_that_is_not_there_is_refused(registry: Registry) -> None:
    given = draft()
    given.golden.append(GoldenVector(frame=b"f", expected=[Expected(variant="float16")]))
    with pytest.raises(Unpublishable, match="golden vector 0 expects outputs of"):
        registry.register(given, {"int8": b"x"}, NOW_MS)


def test_a_manifest_over_the_limit_is_refused_with_what_takes_the_space(registry: Registry) -> None:
    given = draft()
    given.golden.extend(GoldenVector(frame=bytes(1000)) for _ in range(MAX_MANIFEST_BYTES // 1000))
    with pytest.raises(Unpublishable, match=r"98 golden vectors take \d+.*lists of chunks \d+"):
        registry.register(given, {"int8": b"x"}, NOW_MS)
    assert list(registry.list()) == []


def test_when_signing_fails_nothing_is_registered(database: Database, blobs: Path) -> None:
    def no_key(_purpose: str, _payload: bytes) -> Signed:
        raise RuntimeError("no key")

    with pytest.raises(RuntimeError):
        Registry(database, Blobs(blobs), no_key).register(draft(), {"int8": b"x"}, NOW_MS)
    registry = Registry(database, Blobs(blobs), sign)
    assert list(registry.list()) == []
    assert registry.register(draft(), {"int8": b"x"}, NOW_MS).version == 1


def test_what_is_unknown_is_named_with_what_there_is(registry: Registry) -> None:
    with pytest.raises(UnknownModel, match="there is none yet"):
        registry.latest("digits")
    version = registry.register(draft(), {"int8": b"x"}, NOW_MS)
    with pytest.raises(UnknownModel, match="no version 2: its newest is 1"):
        registry.get("digits", 2)
    with pytest.raises(UnknownModel, match="no model 'cats' is registered: there are digits"):
        registry.get("cats", 1)
    with pytest.raises(UnknownModel, match="00ff"):
        registry.by_digest(b"\x00\xff")
    with pytest.raises(UnknownArtifact):
        registry.artifact(b"\0" * 32)
    with pytest.raises(UnknownArtifact, match="chunk 1 of 1"):
        registry.chunk(version.parsed().variants[0].artifact.digest, 1)


def test_a_damaged_or_missing_file_is_never_sent_and_is_mended_by_registering_it_again(
    registry: Registry, blobs: Path
) -> None:
    data = os.urandom(2 * MAX_CHUNK_BYTES)
    digest = registry.register(draft(), {"int8": data}, NOW_MS).parsed().variants[0].artifact.digest
    file = next(path for path in blobs.rglob("*") if path.is_file())
    file.write_bytes(bytes(len(data)))
    with pytest.raises(DamagedBlob, match="chunk 1 of artifact"):
        registry.chunk(digest, 1)
    file.unlink()
    with pytest.raises(UnknownArtifact):
        registry.chunk(digest, 1)
    registry.register(draft(), {"int8": data}, NOW_MS)
    assert registry.chunk(digest, 1) == data[MAX_CHUNK_BYTES:]


def test_people_are_shown_the_int8_file_and_its_accuracy(registry: Registry) -> None:
    files = {"float32": b"f" * 400, "int8": b"i" * 100}
    shown = described(registry.register(draft("digits", "float32", "int8"), files, NOW_MS))
    assert shown["digest"] == hashlib.sha256(files["int8"]).hexdigest()
    assert (shown["bytes"], shown["accuracy_float"], shown["accuracy_int8"]) == (100, 0.985, 0.98)
    assert [variant["name"] for variant in shown["variants"]] == ["float32", "int8"]  # type: ignore[attr-defined]
