"""The registry of model versions: what `littoral train` fills and everything else reads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import structlog
import zstandard

from cloud.foundation.database import Database, Transaction
from cloud.registry import patches, rules, store
from cloud.registry.chunks import offsets, plan
from cloud.registry.entities import DamagedBlob, ModelVersion, UnknownArtifact, UnknownModel
from cloud.registry.kept import Kept
from protos.kit.envelope import MANIFEST
from protos.kit.patches import as_artifact
from protos.v1.manifest_pb2 import COMPRESSION_ZSTD, Artifact, Manifest, Patch, Signed

log = structlog.get_logger()

Sign = Callable[[str, bytes], Signed]
Promise = Callable[[Transaction, str, int, bytes, int], None]
"""Promises devices a version: model, version, the bytes of its manifest, now in Unix ms."""

CACHED_ARTIFACTS = 64
PATCHED_VERSIONS = 3


class Registry:
    """Registered model versions in `database`, their files in `blobs`; `sign` signs for a purpose.

    patched_versions: how many earlier versions' files a new one can be patched from.
    `promise` is called within the transaction that registers a version, so that none is registered without it.
    """

    def __init__(
        self,
        database: Database,
        blobs: Kept,
        sign: Sign,
        promise: Promise | None = None,
        *,
        patched_versions: int = PATCHED_VERSIONS,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._sign = sign
        self._promise = promise
        self._patched_versions = patched_versions
        self._found = lru_cache(CACHED_ARTIFACTS)(self._find_artifact)

    def register(
        self, draft: Manifest, files: Mapping[str, bytes], now_ms: int, name: str | None = None
    ) -> ModelVersion:
        """Make `draft` the next version of its model, with one file for each variant by name.

        Version, time and artifacts of the draft are filled in. All or nothing: the files are on the disk before the
        version exists. name: of this registration; what was registered under it before is returned, and nothing made.
        Raises Unpublishable, and whatever the promise raises.
        """
        rules.check_draft(draft, files)
        stored = {variant: self._store(data) for variant, data in files.items()}
        # Before the transaction: it takes seconds. A version that is registered meanwhile is no base for this one.
        bases = self._bases(draft.model)
        patched = {name: self._patches(stored[name][0], data, bases.get(name, ())) for name, data in files.items()}
        with self._database.transaction() as connection:
            if name and (before := store.registered_as(connection, name)):
                return before
            manifest = Manifest()
            manifest.CopyFrom(draft)
            manifest.version = store.newest(connection, draft.model) + 1
            manifest.created_ms = now_ms
            for variant in manifest.variants:
                variant.artifact.CopyFrom(_known_or_new(connection, *stored[variant.name]))
            rules.add_patches(manifest, patched)
            for patch in (patch for variant in manifest.variants for patch in variant.artifact.patches):
                _known_or_new(connection, as_artifact(patch), patch.digest)
            version = self._signed(manifest)
            store.insert(connection, version)
            if name:
                store.insert_registration(connection, name, version)
            if self._promise:
                self._promise(connection, version.model, version.version, version.manifest, now_ms)
        return version

    def get(self, model: str, version: int) -> ModelVersion:
        """One version of a model. Raises UnknownModel."""
        with self._database.reading() as connection:
            found = store.find(connection, model, version)
            return found or _raise_unknown(connection, model, version)

    def registered_as(self, name: str) -> ModelVersion | None:
        """What was registered under this name of a registration; None: nothing was."""
        with self._database.reading() as connection:
            return store.registered_as(connection, name)

    def latest(self, model: str) -> ModelVersion:
        """The newest version of a model. Raises UnknownModel."""
        with self._database.reading() as connection:
            found = store.find(connection, model, store.newest(connection, model))
            return found or _raise_unknown(connection, model, None)

    def by_digest(self, manifest_digest: bytes) -> ModelVersion:
        """The version that has this manifest. Raises UnknownModel."""
        with self._database.reading() as connection:
            found = store.find_by_digest(connection, manifest_digest)
        if found is None:
            raise UnknownModel(f"no model version has the manifest {manifest_digest.hex()}")
        return found

    def list(self, model: str | None = None) -> Sequence[ModelVersion]:
        """All versions, or those of one model, the oldest first."""
        with self._database.reading() as connection:
            return store.all_versions(connection, model)

    def registered(self, transaction: Transaction) -> Sequence[tuple[str, int, bytes]]:
        """Model, version and manifest of everything there is, within the caller's transaction."""
        versions = store.all_versions(transaction, None)
        return [(version.model, version.version, version.manifest) for version in versions]

    def signed_manifest(self, manifest_digest: bytes) -> bytes:
        """The signed manifest as devices receive it. Raises UnknownModel."""
        return self.by_digest(manifest_digest).signed

    def artifact(self, digest: bytes) -> Artifact:
        """How an artifact travels. Raises UnknownArtifact."""
        return self._found(digest)[0]

    def chunk(self, digest: bytes, index: int) -> bytes:
        """One chunk as it travels, checked. Raises UnknownArtifact or DamagedBlob."""
        artifact, blob, starts = self._found(digest)
        if not 0 <= index < len(artifact.chunks):
            raise UnknownArtifact(f"artifact {digest.hex()}: chunk {index} of {len(artifact.chunks)}")
        data = self._blobs.read(blob, starts[index], artifact.chunks[index].size)
        if hashlib.sha256(data).digest() != artifact.chunks[index].digest:
            raise DamagedBlob(f"chunk {index} of artifact {digest.hex()} is damaged in the blob folder")
        return data

    def file(self, digest: bytes) -> bytes:
        """An artifact's uncompressed file, checked. Raises UnknownArtifact or DamagedBlob."""
        artifact = self.artifact(digest)
        travelling = b"".join(self.chunk(digest, index) for index in range(len(artifact.chunks)))
        if artifact.compression == COMPRESSION_ZSTD:
            return zstandard.ZstdDecompressor().decompress(travelling, max_output_size=artifact.size)
        return travelling

    def _bases(self, model: str) -> Mapping[str, Sequence[bytes]]:
        """Digests of the files that devices may hold by now, by variant, the newest first, each once."""
        with self._database.reading() as connection:
            versions = store.last_versions(connection, model, self._patched_versions)
        found: dict[str, list[bytes]] = {}
        for variant in (variant for version in versions for variant in version.parsed().variants):
            digests = found.setdefault(variant.name, [])
            if variant.artifact.digest not in digests:
                digests.append(variant.artifact.digest)
        return found

    def _patches(self, artifact: Artifact, data: bytes, bases: Sequence[bytes]) -> Sequence[Patch]:
        """Stored patches from `bases` to `data`, as many as are worth it. A base that cannot be read has none."""
        made: dict[bytes, tuple[Patch, bytes]] = {}
        for base in bases:
            try:
                if base != artifact.digest:
                    made[base] = patches.shortest(self.file(base), data)
            except (UnknownArtifact, DamagedBlob) as error:
                log.warning("no patch from an earlier version", error=str(error))
        chosen = rules.affordable(artifact, [patch for patch, _ in made.values()])
        for patch in chosen:
            self._blobs.put(made[patch.base][1])
        return chosen

    def _find_artifact(self, digest: bytes) -> tuple[Artifact, bytes, Sequence[int]]:
        """How it travels, its blob, and where its chunks begin: summed up once, not for each chunk."""
        with self._database.reading() as connection:
            found = store.find_artifact(connection, digest)
        if found is None:
            raise UnknownArtifact(f"no model version has the artifact {digest.hex()}")
        artifact, blob = found
        return artifact, blob, offsets(artifact.chunks)

    def _store(self, data: bytes) -> tuple[Artifact, bytes]:
        artifact, travelling = plan(data)
        return artifact, self._blobs.put(travelling)

    def _signed(self, manifest: Manifest) -> ModelVersion:
        payload = manifest.SerializeToString(deterministic=True)
        signed = self._sign(MANIFEST, payload).SerializeToString()
        rules.check_size(manifest, signed)
        digest = hashlib.sha256(payload).digest()
        return ModelVersion(manifest.model, manifest.version, digest, payload, signed, manifest.created_ms)


def _known_or_new(connection: Transaction, artifact: Artifact, blob: bytes) -> Artifact:
    """A file is cut once and for ever: its topics carry the digest of the file, not of its chunks."""
    known = store.find_artifact(connection, artifact.digest)
    if known is not None:
        return known[0]
    store.insert_artifact(connection, artifact, blob)
    return artifact


def _raise_unknown(connection: Transaction, model: str, version: int | None) -> ModelVersion:
    newest = store.newest(connection, model)
    if newest:
        raise UnknownModel(f"model {model!r} has no version {version}: its newest is {newest}")
    others = ", ".join(store.models(connection))
    raise UnknownModel(
        f"no model {model!r} is registered" + (f": there are {others}" if others else ": there is none yet")
    )
