"""The metadata's table: the newest versions of each role's file, every version of the root's."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Connection, LargeBinary, String, Table, func, select

from cloud.foundation.database import metadata
from cloud.identity.entities import MetadataFile

files = Table(
    "metadata_files",
    metadata,
    Column("role", String(63), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)


def lock(connection: Connection) -> None:
    """Until the transaction ends nobody else writes metadata; readers go on. SQLite has locked everything already."""
    if connection.dialect.name == "postgresql":
        # Not rows: a change adds new ones and removes old, so two who wait for each other's would hold different ones.
        connection.exec_driver_sql(f"LOCK TABLE {files.name} IN SHARE ROW EXCLUSIVE MODE")


def newest(connection: Connection, role: str) -> MetadataFile | None:
    """The newest version of a role's metadata."""
    chosen = select(files).where(files.c.role == role).order_by(files.c.version.desc()).limit(1)
    row = connection.execute(chosen).one_or_none()
    return MetadataFile(row.role, row.version, row.data) if row else None


def newest_version(connection: Connection, role: str) -> int:
    """The newest version of a role's metadata; 0: there is none."""
    return int(connection.execute(select(func.max(files.c.version)).where(files.c.role == role)).scalar() or 0)


def versions(connection: Connection, role: str) -> list[MetadataFile]:
    """All versions of a role's metadata that there are, the oldest first."""
    rows = connection.execute(select(files).where(files.c.role == role).order_by(files.c.version))
    return [MetadataFile(row.role, row.version, row.data) for row in rows]


def find(connection: Connection, role: str, version: int) -> MetadataFile | None:
    """One version of a role's metadata."""
    chosen = select(files).where(files.c.role == role, files.c.version == version)
    row = connection.execute(chosen).one_or_none()
    return MetadataFile(row.role, row.version, row.data) if row else None


def everything(connection: Connection) -> list[MetadataFile]:
    """All files, by role and version."""
    rows = connection.execute(select(files).order_by(files.c.role, files.c.version))
    return [MetadataFile(row.role, row.version, row.data) for row in rows]


def insert(connection: Connection, file: MetadataFile) -> None:
    """Add a version. Fails if it exists: no version is ever written twice."""
    connection.execute(files.insert().values(role=file.role, version=file.version, data=file.data))


def remove_before(connection: Connection, role: str, version: int) -> None:
    """Forget the versions of a role below `version`."""
    connection.execute(files.delete().where(files.c.role == role, files.c.version < version))
