"""The cloud's side of samples on any database, with one registered model, as the samples' tests need it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select

from cloud.fleet.service import Fleet
from cloud.foundation.database import Database
from cloud.registry.blobs import Blobs
from cloud.registry.entities import ModelVersion
from cloud.registry.service import Registry
from cloud.samples.kept import FolderFrames
from cloud.samples.partials import Partials
from cloud.samples.service import Samples
from cloud.samples.store_frames import DatabaseFrames, DatabaseParts, frames
from cloud.uplink.entities import KnownVersion
from protos.kit import envelope
from protos.v1.manifest_pb2 import Lineage, Manifest, Metric, Preprocessing, Signed, Variant

SHAPE = (200, 200)
FRAME_BYTES = 40_000
"""Three pieces."""

_KEY = Ed25519PrivateKey.generate()


@dataclass(frozen=True)
class SamplesCloud:
    """What a process of the cloud has of samples; `version`: of the model digits, with ten classes."""

    database: Database
    samples: Samples
    fleet: Fleet
    version: ModelVersion
    folder: Path

    def known(self, digest: bytes) -> KnownVersion | None:
        return KnownVersion("digits", 1, 10) if digest == self.version.manifest_digest else None

    @property
    def files(self) -> list[Path]:
        """Frames that are stored as files."""
        return sorted((self.folder / "frames").glob("??/[!.]*"))

    @property
    def stored(self) -> list[str]:
        """Digests of the frames that are stored, in whatever way."""
        with self.database.reading() as connection:
            rows = [bytes(digest).hex() for digest in connection.execute(select(frames.c.digest)).scalars()]
        return sorted(rows + [path.name for path in self.files])


def samples_cloud(url: str, folder: Path, *, in_database: bool = False) -> SamplesCloud:
    """On this database and folder, which may have been used before. in_database: the frames are there, too."""
    database = Database(url)
    database.create()
    registry, fleet = Registry(database, Blobs(folder / "blobs"), _sign), Fleet(database)
    versions = registry.list("digits") or [registry.register(_draft(), {"int8": b"a model"}, 1)]
    folders = FolderFrames(folder / "frames"), Partials(folder / "partials")
    kept = (DatabaseFrames(database), DatabaseParts(database)) if in_database else folders
    samples = Samples(database, registry, fleet, *kept)
    return SamplesCloud(database, samples, fleet, versions[0], folder)


def _draft() -> Manifest:
    return Manifest(
        model="digits",
        variants=[Variant(name="int8")],
        preprocessing=Preprocessing(frame_shape=SHAPE),
        labels=list("0123456789"),
        metrics=[Metric(name="accuracy_int8", value=0.98), Metric(name="accuracy_float", value=0.985)],
        lineage=Lineage(dataset="digits", dataset_digest=b"\1" * 32, parameters={"epochs": "3"}),
    )


def _sign(purpose: str, payload: bytes) -> Signed:
    return envelope.sign(purpose, payload, _KEY)
