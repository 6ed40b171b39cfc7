"""The registry's tables: model versions, and where each artifact's bytes are."""

from __future__ import annotations

import hashlib

from sqlalchemy import BigInteger, Column, Connection, LargeBinary, Row, String, Table, func, select

from cloud.foundation.database import metadata
from cloud.registry.entities import ModelVersion
from protos.v1.manifest_pb2 import Artifact, Signed

versions = Table(
    "model_versions",
    metadata,
    Column("model", String(63), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("manifest_digest", LargeBinary(32), nullable=False, unique=True),
    Column("signed", LargeBinary, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("blob", LargeBinary(32), nullable=False),  # digest of the travelling form
    Column("artifact", LargeBinary, nullable=False),  # Artifact: how that form is cut
)

registrations = Table(
    "registrations",
    metadata,
    Column("name", String(128), primary_key=True),  # what the one who registers calls it: done again it is the same
    Column("model", String(63), nullable=False),
    Column("version", BigInteger, nullable=False),
)


def newest(connection: Connection, model: str) -> int:
    """The highest version of a model; 0 if there is none."""
    return int(connection.execute(select(func.max(versions.c.version)).where(versions.c.model == model)).scalar() or 0)


def insert(connection: Connection, version: ModelVersion) -> None:
    """Add a model version."""
    connection.execute(
        versions.insert().values(
            model=version.model,
            version=version.version,
            manifest_digest=version.manifest_digest,
            signed=version.signed,
            created_ms=version.created_ms,
        )
    )


def find(connection: Connection, model: str, version: int) -> ModelVersion | None:
    """One version of a model."""
    chosen = select(versions).where(versions.c.model == model, versions.c.version == version)
    return _version(connection.execute(chosen).one_or_none())


def registered_as(connection: Connection, name: str) -> ModelVersion | None:
    """What was registered under this name."""
    both = (versions.c.model == registrations.c.model) & (versions.c.version == registrations.c.version)
    chosen = select(versions).join(registrations, both).where(registrations.c.name == name)
    return _version(connection.execute(chosen).one_or_none())


def insert_registration(connection: Connection, name: str, version: ModelVersion) -> None:
    """Remember what was registered under a new name."""
    connection.execute(registrations.insert().values(name=name, model=version.model, version=version.version))


def find_by_digest(connection: Connection, manifest_digest: bytes) -> ModelVersion | None:
    """The version whose manifest has this digest."""
    return _version(
        connection.execute(select(versions).where(versions.c.manifest_digest == manifest_digest)).one_or_none()
    )


def all_versions(connection: Connection, model: str | None) -> list[ModelVersion]:
    """The versions of one model or of all, by name, the oldest first."""
    chosen = select(versions).order_by(versions.c.model, versions.c.version)
    if model is not None:
        chosen = chosen.where(versions.c.model == model)
    return [found for row in connection.execute(chosen) if (found := _version(row)) is not None]


def last_versions(connection: Connection, model: str, count: int) -> list[ModelVersion]:
    """The newest `count` versions of a model, the newest first."""
    chosen = select(versions).where(versions.c.model == model).order_by(versions.c.version.desc()).limit(count)
    return [found for row in connection.execute(chosen) if (found := _version(row)) is not None]


def models(connection: Connection) -> list[str]:
    """The names of all models."""
    return list(connection.execute(select(versions.c.model).distinct().order_by(versions.c.model)).scalars())


def find_artifact(connection: Connection, digest: bytes) -> tuple[Artifact, bytes] | None:
    """How an artifact travels, and the digest of the blob with that form."""
    row = connection.execute(select(artifacts).where(artifacts.c.digest == digest)).one_or_none()
    return (Artifact.FromString(row.artifact), row.blob) if row else None


def insert_artifact(connection: Connection, artifact: Artifact, blob: bytes) -> None:
    """Add an artifact."""
    connection.execute(
        artifacts.insert().values(digest=artifact.digest, blob=blob, artifact=artifact.SerializeToString())
    )


def _version(row: Row[tuple[object, ...]] | None) -> ModelVersion | None:
    if row is None:
        return None
    payload = Signed.FromString(row.signed).payload
    return ModelVersion(row.model, row.version, hashlib.sha256(payload).digest(), payload, row.signed, row.created_ms)
