"""A fleet's metadata in memory: the cloud's own signing half, a shelf that devices fetch from, faults to switch on."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata
from tuf.api.serialization.json import JSONSerializer

from cloud.delivery.metadata import ordered
from cloud.foundation.database import Database
from cloud.identity.changes import Changes
from cloud.identity.entities import Lifetimes
from cloud.identity.service import Identity
from cloud.identity.trust import FleetTrust
from edge.delivery.entities import Absent, NotDelivered
from edge.delivery.trust import Trust
from protos.v1.metadata_pb2 import MetadataIndex

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
T = TypeVar("T")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def manifest(text: str) -> bytes:
    """What stands for a manifest's bytes here."""
    return f"manifest of {text}".encode()


def digest(text: str) -> bytes:
    return hashlib.sha256(manifest(text)).digest()


class Fleet:
    """A cloud's metadata. `ahead_ms` lets its clock go ahead of the real one, or fall behind."""

    def __init__(self, folder: Path, lifetimes: Lifetimes | None = None, ahead_ms: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.database = Database(f"sqlite:///{folder}/fleet.db")
        self.database.create()
        self.identity = Identity(folder / "cloud")
        self.trust = FleetTrust(self.database, self.identity, folder / "offline", lifetimes or Lifetimes())
        self.changes = Changes(self.trust)
        self.ahead_ms = ahead_ms
        self.trust.prepare(lambda _: [], self.now_ms)

    @property
    def now_ms(self) -> int:
        return now_ms() + self.ahead_ms

    @property
    def root(self) -> bytes:
        """What a device of this fleet was given at its first start."""
        found = self.trust.file("1.root.json")
        assert found
        return found

    def register(self, model: str, version: int, text: str = "") -> None:
        with self.database.transaction() as transaction:
            content = manifest(text or f"{model}/{version}")
            self.trust.list_version(transaction, model, version, content, self.now_ms)

    def files(self) -> dict[str, bytes]:
        """All that devices may ask for, by name."""
        return ordered(self.trust.files())

    def newest(self, role: str) -> str:
        """The name of a role's newest file."""
        return [file.name for file in self.trust.files() if file.role == role][-1]

    def forge(self, role: str, change: Callable[[Any], None], stolen: Sequence[Signer] | None = None) -> bytes:
        """The newest metadata of a role, changed by someone who has stolen these keys, by default all of the role's."""
        metadata = Metadata.from_bytes(self.files()[self.newest(role)])
        change(metadata.signed)
        for place, signer in enumerate(stolen or self.trust.signers.of(role)):
            metadata.sign(signer, append=place > 0)
        return metadata.to_bytes(JSONSerializer(compact=True))


class Shelf:
    """A source of metadata, as a broker is: it serves what lies on it, and the index says which roots there are."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = dict(files)
        self.asked: list[str] = []

    async def file(self, name: str) -> bytes:
        self.asked.append(name)
        version, _, role = name.partition(".")
        if role == "root.json" and int(version) > MetadataIndex.FromString(self.files["index"]).root:
            raise Absent(name)
        if name not in self.files:
            raise NotDelivered(f"{name} has not come")
        return self.files[name]


class Device:
    """A device's trust over one shelf. Each call is one run of an agent: it begins with what lies on the disk."""

    def __init__(self, folder: Path, root: bytes, *shelves: Shelf) -> None:
        self.folder = folder
        self.root = root
        self.shelves = shelves
        self.ahead_ms = 0
        self.alarms: list[str] = []

    def trust(self) -> Trust:
        return Trust(self.folder, self.root, self.shelves, 600, lambda: now_ms() + self.ahead_ms)

    def check(self, model: str, version: int, text: str = "", issued_ms: int = 0) -> None:
        """As before an installation. Raises NotDelivered or Rejected."""
        wanted = digest(text or f"{model}/{version}")
        self._run(lambda trust: trust.check(model, version, wanted, issued_ms))

    def directors(self) -> set[str]:
        return set(self._run(lambda trust: trust.directors()))

    def _run(self, use: Callable[[Trust], Coroutine[Any, Any, T]]) -> T:
        async def one() -> T:
            trust = self.trust()
            try:
                return await use(trust)
            finally:
                self.alarms = trust.alarms

        return asyncio.run(one())
