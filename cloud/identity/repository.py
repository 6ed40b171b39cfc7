"""The fleet's TUF repository within one database transaction: each change is signed, and all of it or nothing counts.

Versions only grow, and no version is ever written twice, so that of two processes that change the same one fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from securesystemslib.signer import Key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Role, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from cloud.foundation.database import Transaction
from cloud.identity import rules, store
from cloud.identity.entities import (
    OFFLINE,
    ONLINE,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    Lifetimes,
    MetadataFailed,
    MetadataFile,
)
from cloud.identity.signers import Signers
from protos.topics import MAX_METADATA_BYTES

KEPT = 2
"""Versions of a file that stay: a device that has just read the former timestamp still finds what it names."""

S = TypeVar("S", Root, Targets, Snapshot, Timestamp)


class Repository:
    """Metadata as `connection`'s transaction sees it, signed with `signers` as of `now`."""

    def __init__(self, connection: Transaction, signers: Signers, lifetimes: Lifetimes, now: datetime) -> None:
        self._connection = connection
        self._signers = signers
        self._lifetimes = lifetimes
        self._now = now.astimezone(UTC).replace(microsecond=0)
        store.lock(connection)

    @property
    def exists(self) -> bool:
        """Whether there is any metadata."""
        return self.version(ROOT) > 0

    def root(self) -> Root:
        """The newest root, to be changed and `put` again."""
        return self._content(ROOT, Root)

    def targets(self) -> Targets:
        """The newest top-level targets, likewise."""
        return self._content(TARGETS, Targets)

    def model(self, model: str) -> Targets:
        """The newest metadata of a model's role; empty if there is none."""
        return self._content(model, Targets)

    def version(self, role: str) -> int:
        """The newest version of a role's metadata; 0: there is none."""
        return store.newest_version(self._connection, role)

    def expires(self, role: str) -> datetime:
        """When the role's newest metadata expires."""
        return self._now + self.left(role)

    def drafted(self, role: str, content: S) -> Metadata[S]:
        """The role's next version, without a signature."""
        content.version = self.version(role) + 1
        content.expires = self._now + self._lifetimes.of(role)
        return Metadata(content)

    def put(self, role: str, content: S) -> None:
        """Sign the role's next version with the keys that are here. Raises MetadataFailed if they do not suffice."""
        metadata = self.drafted(role, content)
        allowed = self._allowed(role, metadata)
        for signer in self._signers.of(role):
            if signer.public_key.keyid in allowed:
                metadata.sign(signer, append=True)
        self.store(role, metadata)

    def store(self, role: str, metadata: Metadata[S]) -> None:
        """Add the signed next version of a role. Raises MetadataFailed unless it is that, and is signed as it must."""
        newest = self.version(role)
        if metadata.signed.version != newest + 1:
            raise MetadataFailed(
                f"version {metadata.signed.version} of {role} is not the one after {newest}: "
                "the metadata has changed meanwhile. Export it and sign it again"
            )
        self._verify(role, metadata)
        self._insert(role, metadata)

    def found(self, role: str, metadata: Metadata[S]) -> None:
        """As `store`, of a fleet that exists elsewhere: its targets may have any version, being the first here."""
        if role == TARGETS and not self.version(role):
            self._verify(role, metadata)
            self._insert(role, metadata)
        else:
            self.store(role, metadata)

    def _insert(self, role: str, metadata: Metadata[S]) -> None:
        data = metadata.to_bytes(JSONSerializer(compact=True))
        if len(data) > MAX_METADATA_BYTES:
            raise MetadataFailed(
                f"the metadata of {role} would have {len(data)} bytes, a message has at most {MAX_METADATA_BYTES}"
            )
        file = MetadataFile(role, metadata.signed.version, data)
        store.insert(self._connection, file)
        if role != ROOT:
            kept = 1 if role == TIMESTAMP else KEPT
            store.remove_before(self._connection, role, file.version - kept + 1)

    def renew(self, role: str) -> None:
        """Sign the same content anew, for another life. Raises MetadataFailed as `put` does."""
        if role == ROOT:
            self.put(role, self.root())
        else:
            self.put(role, self._content(role, Targets))

    def settle(self) -> None:
        """Sign what the newest root and targets ask for: models' roles, then a snapshot and a timestamp of it all."""
        roles = [TARGETS, *rules.delegated(self.targets())]
        for role in roles:
            if not self._stands(role):
                self.renew(role)
        files = {role: store.newest(self._connection, role) for role in roles}
        listed = {f"{role}.json": MetaFile(file.version) for role, file in files.items() if file}
        snapshot = self._content(SNAPSHOT, Snapshot)
        if snapshot.meta != listed or not self._stands(SNAPSHOT) or self.is_due(SNAPSHOT):
            snapshot.meta = listed
            self.put(SNAPSHOT, snapshot)
        self._put_timestamp()

    def is_due(self, role: str, share: float = 0.5) -> bool:
        """Whether the role's metadata has lived this share of its life."""
        return self.left(role) <= self._lifetimes.of(role) * (1 - share)

    def left(self, role: str) -> timedelta:
        """How long the role's newest metadata holds from now on; nothing where there is none."""
        file = store.newest(self._connection, role)
        return Metadata.from_bytes(file.data).signed.expires - self._now if file else timedelta()

    def _put_timestamp(self) -> None:
        file = store.newest(self._connection, SNAPSHOT)
        assert file, "a snapshot comes before its timestamp"
        timestamp = self._content(TIMESTAMP, Timestamp)
        timestamp.snapshot_meta = MetaFile.from_data(file.version, file.data, ["sha256"])
        self.put(TIMESTAMP, timestamp)

    def _content(self, role: str, kind: type[S]) -> S:
        file = store.newest(self._connection, role)
        return Metadata[S].from_bytes(file.data).signed if file else kind()

    def _stands(self, role: str) -> bool:
        """Whether the role's newest metadata is signed by the keys that count now."""
        file = store.newest(self._connection, role)
        try:
            if file:
                self._verify(role, Metadata.from_bytes(file.data))
        except MetadataFailed:
            return False
        return file is not None

    def _verify(self, role: str, metadata: Metadata[S]) -> None:
        try:
            for delegator in self._delegators(role, metadata):
                delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except RepositoryError as error:
            raise MetadataFailed(f"{error}. {self._remedy(role)}") from error

    def _delegators(self, role: str, metadata: Metadata[S]) -> list[Root | Targets]:
        if role == ROOT:
            itself = metadata.signed
            assert isinstance(itself, Root), "the root role has a root"
            return [self.root(), itself] if self.exists else [itself]
        return [self.root() if role in {TARGETS, *ONLINE} else self.targets()]

    def _allowed(self, role: str, metadata: Metadata[S]) -> set[str]:
        found: list[Role] = [delegator.get_delegated_role(role) for delegator in self._delegators(role, metadata)]
        return {keyid for one in found for keyid in one.keyids}

    def _remedy(self, role: str) -> str:
        if role in OFFLINE:
            return (
                f"Bring its offline keys (they are not in {self._signers.offline}) and name their folder with "
                "--offline-keys; or export the change, sign it where they are, and import it"
            )
        return f"Restore its key in this cloud's keys folder, or replace it: littoral keys rotate {role}"


def keys_of(root: Root, targets: Targets) -> Mapping[str, Mapping[str, Key]]:
    """The keys that count for each role, by key id."""
    found = {role: {keyid: root.keys[keyid] for keyid in root.roles[role].keyids} for role in [*OFFLINE, *ONLINE]}
    for model in rules.delegated(targets):
        found[model] = {keyid: targets.get_key(keyid) for keyid in targets.get_delegated_role(model).keyids}
    return found
