"""What lets devices trust this cloud: TUF metadata in the database, and trust.json to begin with.

The metadata is made on first use, with the offline keys in a folder beside the data folder. While that folder is there,
new model names get a role by themselves; it should not stay there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from tuf.api.metadata import Metadata, Targets
from tuf.api.serialization import DeserializationError

from cloud.foundation.database import Database, Transaction
from cloud.foundation.settings import CloudSettings
from cloud.identity import rules, store
from cloud.identity.entities import (
    DIRECTOR,
    OFFLINE,
    ONLINE,
    ROOT,
    TARGETS,
    TIMESTAMP,
    Lifetimes,
    MetadataFailed,
    MetadataFile,
    NotDelegated,
)
from cloud.identity.repository import Repository, keys_of
from cloud.identity.service import ROLES, Identity
from cloud.identity.signers import Signers
from protos.kit.files import write_durably
from protos.kit.keys import KeysFailed

THRESHOLD, OFFLINE_KEYS = 2, 3
"""So many of so many offline keys sign where nobody has said otherwise."""

TIMESTAMPS_A_LIFE = 24
"""How often a timestamp is renewed before one would expire."""

WARNED_BEFORE = timedelta(days=30)

Listed = tuple[str, int, bytes]
"""A registered version: model, version, the bytes of its manifest."""

log = structlog.get_logger()


class FleetTrust:
    """The metadata of one fleet. `now_ms` is Unix time. All methods raise KeysFailed that says what to do."""

    def __init__(self, database: Database, identity: Identity, offline: Path, lifetimes: Lifetimes) -> None:
        self.signers = Signers(identity.keys, offline)
        self.trust_path = identity.folder / "trust.json"
        self._database = database
        self._identity = identity
        self._lifetimes = lifetimes

    @classmethod
    def of(cls, settings: CloudSettings, database: Database, identity: Identity) -> FleetTrust:
        """That of these settings."""
        lifetimes = Lifetimes(timestamp=timedelta(hours=settings.timestamp_hours))
        return cls(database, identity, settings.offline_keys, lifetimes)

    def prepare(self, registered: Callable[[Transaction], Iterable[Listed]], now_ms: int) -> None:
        """Make the metadata if there is none, with what is `registered` already, and trust.json.

        Where the folder of the keys has signed metadata (`littoral keys secret`), the fleet begins with that.
        """
        with self._transaction(now_ms) as (transaction, repository):
            new, brought = not repository.exists, self._brought()
            if new:
                if brought:
                    self._begin_with(repository, brought)
                else:
                    self._create(repository, THRESHOLD, OFFLINE_KEYS)
                for model, version, manifest in registered(transaction):
                    self._list(repository, model, version, manifest)
                repository.settle()
        if new and not brought:
            log.warning(
                "offline keys made: move their folder to where no server can read it", folder=str(self.signers.offline)
            )
        self.write_trust()

    def founding(self) -> dict[str, bytes]:
        """What another database must be given to be this fleet's: file names and metadata, signed offline."""
        with self._database.reading() as connection:
            found = [*store.versions(connection, ROOT), store.newest(connection, TARGETS)]
        return {file.name: file.data for file in found if file}

    def _brought(self) -> list[tuple[str, bytes]]:
        """Signed metadata beside the keys: the roots in their order, then the targets."""
        names = [path for path in self._identity.keys.glob("*.json") if rules.founding_order(path.name)]
        return [
            (path.name, path.read_bytes()) for path in sorted(names, key=lambda path: rules.founding_order(path.name))
        ]

    @staticmethod
    def _begin_with(repository: Repository, brought: Iterable[tuple[str, bytes]]) -> None:
        for name, data in brought:
            try:
                metadata = Metadata.from_bytes(data)
            except DeserializationError as error:
                raise MetadataFailed(f"{name}, beside the keys, is no metadata: {error}") from error
            repository.found(name.split(".")[1], metadata)

    def create(self, threshold: int, keys: int, now_ms: int) -> None:
        """Make the first metadata: root and targets signed by `threshold` of `keys` offline keys each."""
        with self.changing(now_ms) as repository:
            if repository.exists:
                raise MetadataFailed("this fleet has metadata already: change it with 'littoral keys rotate'")
            self._create(repository, threshold, keys)
            repository.settle()
        self.write_trust()

    def list_version(self, transaction: Transaction, model: str, version: int, manifest: bytes, now_ms: int) -> None:
        """Promise devices a version, within the transaction that registers it. Raises NotDelegated."""
        repository = self._repository(transaction, now_ms)
        self._list(repository, model, version, manifest)
        repository.settle()

    def check_delegated(self, model: str, now_ms: int) -> None:
        """Raise what registering it would raise, before the long work that may come first."""
        with self.changing(now_ms) as repository:
            if model not in rules.delegated(repository.targets()):
                rules.check_model(model)
                if not self.signers.has_offline:
                    raise _not_delegated(model)

    def renew(self, now_ms: int) -> list[str]:
        """Sign anew what will expire before long; returns what people should know of what could not be."""
        with self.changing(now_ms) as repository:
            models = rules.delegated(repository.targets())
            due = [role for role in [*OFFLINE, *models] if repository.is_due(role)]
            worries = [worry for role in due if (worry := self._renew(repository, role))]
            if len(due) > len(worries) or repository.is_due(TIMESTAMP, 1 / TIMESTAMPS_A_LIFE):
                repository.settle()
        return worries

    def files(self) -> list[MetadataFile]:
        """Everything that devices may ask for."""
        with self._database.reading() as connection:
            return store.everything(connection)

    def file(self, name: str) -> bytes | None:
        """One of them by its name."""
        with self._database.reading() as connection:
            if name == f"{TIMESTAMP}.json":
                found = store.newest(connection, TIMESTAMP)
            else:
                version, _, role = name.removesuffix(".json").partition(".")
                found = store.find(connection, role, int(version)) if version.isdecimal() else None
        return found.data if found and found.name == name else None

    def timestamp_version(self) -> int:
        """The newest timestamp's version: it grows with every change."""
        with self._database.reading() as connection:
            return store.newest_version(connection, TIMESTAMP)

    def next_director(self) -> dict[str, str]:
        """The public key that is to sign deployments, once the metadata names it."""
        return self._identity.next_director()

    def discard_former(self, roles: Iterable[str], now_ms: int) -> None:
        """Remove the private keys of `roles` here that the metadata does not name any more."""
        with self.changing(now_ms) as repository:
            keys = keys_of(repository.root(), repository.targets())
        for role in roles:
            self.signers.discard(role, keys.get(role, {}))

    def trust(self) -> dict[str, Any]:
        """What a device must know before its first start: public keys, and the newest root. Nothing in it is secret."""
        with self._database.reading() as connection:
            root = store.newest(connection, ROOT)
        return {**self._identity.public(), **({"root": json.loads(root.data)} if root else {})}

    def write_trust(self) -> None:
        """Bring trust.json up to date, and the director's key, which a change may have replaced.

        Each only where this process has the keys for it.
        """
        self.follow()
        if self._identity.signs >= ROLES.keys():
            self._write_trust()

    def follow(self) -> None:
        """Sign deployments, if this process does, with the key that devices have been told of."""
        if DIRECTOR not in self._identity.signs:
            return
        directors = self._directors()
        if directors is not None and not self._identity.follow(directors):
            log.error("devices take no deployments from this cloud's key: littoral keys rotate deployment")

    def _write_trust(self) -> None:
        text = json.dumps(self.trust(), indent=2) + "\n"
        try:
            if not self.trust_path.exists() or self.trust_path.read_text() != text:
                self.trust_path.parent.mkdir(parents=True, exist_ok=True)
                write_durably(self.trust_path, text.encode())
        except OSError as error:
            raise KeysFailed(f"{self.trust_path} cannot be written: {error.strerror}") from error

    def _directors(self) -> dict[str, str] | None:
        """Whose deployments devices take; None while there is no metadata, which another process may be making."""
        with self._database.reading() as connection:
            targets = store.newest(connection, TARGETS)
        return rules.directors(Metadata[Targets].from_bytes(targets.data).signed) if targets else None

    @contextmanager
    def changing(self, now_ms: int) -> Iterator[Repository]:
        """The metadata within a transaction; afterwards this cloud signs as it says."""
        with self._transaction(now_ms) as (_, repository):
            yield repository

    @contextmanager
    def _transaction(self, now_ms: int) -> Iterator[tuple[Transaction, Repository]]:
        with self._database.transaction() as transaction:
            yield transaction, self._repository(transaction, now_ms)

    def _repository(self, transaction: Transaction, now_ms: int) -> Repository:
        return Repository(transaction, self.signers, self._lifetimes, datetime.fromtimestamp(now_ms / 1000, UTC))

    def _create(self, repository: Repository, threshold: int, keys: int) -> None:
        # New ones whatever lies there: keys of an earlier fleet would make devices take this one for its past.
        offline = {role: [self.signers.new(role) for _ in range(keys)] for role in OFFLINE}
        online = {role: self.signers.new(role) for role in ONLINE}
        repository.put(ROOT, rules.first_root(offline, online, threshold))
        targets = Targets()
        rules.name_directors(targets, self._identity.director())
        repository.put(TARGETS, targets)

    def _list(self, repository: Repository, model: str, version: int, manifest: bytes) -> None:
        targets = repository.targets()
        if model not in rules.delegated(targets):
            rules.check_model(model)
            if not self.signers.has_offline:
                raise _not_delegated(model)
            rules.delegate(targets, model, self.signers.first(model))
            repository.put(TARGETS, targets)
        content = repository.model(model)
        rules.add_version(content, model, version, manifest)
        repository.put(model, content)

    def _renew(self, repository: Repository, role: str) -> str:
        """Sign the same content anew; why that cannot be done, if it is to be done soon."""
        try:
            repository.renew(role)
        except KeysFailed as error:
            left = repository.left(role)
            return f"{role} expires in {left.days} days: {error}" if left < WARNED_BEFORE else ""
        return ""


def _not_delegated(model: str) -> NotDelegated:
    return NotDelegated(
        f"model {model!r} has no role in the fleet's metadata yet, and making one needs the offline keys: "
        f"littoral keys delegate {model} --offline-keys FOLDER"
    )
