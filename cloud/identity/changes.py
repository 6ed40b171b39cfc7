"""What people change of a fleet's trust: keys replaced, model names delegated, lives renewed.

Root and targets are signed offline. Where their keys are at hand a change is made at once; where not, it is exported
as what is to be signed, signed elsewhere, and imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets
from tuf.api.serialization import DeserializationError

from cloud.identity import rules
from cloud.identity.entities import DIRECTOR, OFFLINE, ONLINE, ROOT, TARGETS, MetadataFailed
from cloud.identity.repository import Repository, keys_of
from cloud.identity.signers import Signers
from cloud.identity.trust import FleetTrust

Change = tuple[str, Any]
"""A role and its new content, a Root or Targets: tuf's generics take no union."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A role as people see it. here: how many of its keys are on this machine; model: whether it is a model's."""

    role: str
    version: int
    expires: datetime
    threshold: int
    keys: tuple[str, ...]
    here: int


class Changes:
    """Changes of one fleet's trust. All methods raise KeysFailed that says what to do; then nothing has changed."""

    def __init__(self, trust: FleetTrust) -> None:
        self._trust = trust

    def standings(self, now_ms: int) -> list[Standing]:
        """Every role: the four of the fleet, then the models by name."""
        with self._trust.changing(now_ms) as repository:
            self._need(repository)
            root, targets = repository.root(), repository.targets()
            return [
                Standing(
                    role=role,
                    version=repository.version(role),
                    expires=repository.expires(role),
                    threshold=(root.roles.get(role) or targets.get_delegated_role(role)).threshold,
                    keys=tuple(keys),
                    here=len({signer.public_key.keyid for signer in self._trust.signers.of(role)} & keys.keys()),
                )
                for role, keys in keys_of(root, targets).items()
            ]

    def rotate(self, names: Sequence[str], now_ms: int) -> None:
        """Replace the keys of roles, of the director, of models; of an offline role all of its keys."""
        self._apply(lambda repository: self._rotated(repository, names), now_ms)
        self._trust.discard_former(names, now_ms)

    def delegate(self, models: Sequence[str], now_ms: int) -> None:
        """Give model names their roles, so that versions can be registered under them."""
        self._apply(lambda repository: self._delegated(repository, models), now_ms)

    def renew(self, roles: Sequence[str], now_ms: int) -> None:
        """Sign offline roles' content anew, for another life."""
        self._apply(lambda repository: self._renewed(repository, roles), now_ms)

    def export(self, kind: str, names: Sequence[str], now_ms: int) -> bytes:
        """A change (`rotate`, `delegate` or `renew`, of `names`) as what is to be signed where the offline keys are."""
        if kind == "rotate" and (offline := [name for name in names if name in OFFLINE]):
            raise MetadataFailed(
                f"new keys for {offline[0]} are made where its keys are kept: bring their folder here for a moment, "
                f"and run littoral keys rotate {offline[0]} --offline-keys FOLDER"
            )
        make = {"rotate": self._rotated, "delegate": self._delegated, "renew": self._renewed}[kind]
        with self._trust.changing(now_ms) as repository:
            self._need(repository)
            changes = make(repository, names)
            if len(changes) != 1:
                raise MetadataFailed(f"{' and '.join(names)} are not in one file of metadata: export them one by one")
            return repository.drafted(*changes[0]).to_bytes()

    def accept(self, signed: bytes, now_ms: int) -> str:
        """Put an exported change that has been signed into force; returns the role that it is of."""
        metadata, role = read_draft(signed)
        with self._trust.changing(now_ms) as repository:
            self._need(repository)
            repository.store(role, metadata)
            repository.settle()
        self._trust.write_trust()
        return role

    def _apply(self, change: Callable[[Repository], list[Change]], now_ms: int) -> None:
        with self._trust.changing(now_ms) as repository:
            self._need(repository)
            for role, content in change(repository):
                repository.put(role, content)
            repository.settle()
        self._trust.write_trust()

    def _rotated(self, repository: Repository, names: Sequence[str]) -> list[Change]:
        """All at once, so that several keys that were lost together do not wait for each other."""
        root, targets = repository.root(), repository.targets()
        contents = {ROOT: root, TARGETS: targets}
        changed = {self._replace(root, targets, name) for name in names}
        return [(role, contents[role]) for role in OFFLINE if role in changed]

    def _replace(self, root: Root, targets: Targets, name: str) -> str:
        """Give `name` a new key; returns the role whose content that changes."""
        signers = self._trust.signers
        if name in OFFLINE:
            new = [signers.new(name) for _ in root.roles[name].keyids]
            rules.replace_keys(root, name, new, root.roles[name].threshold)
        elif name in ONLINE:
            rules.replace_keys(root, name, [signers.new(name)], 1)
        elif name == DIRECTOR:
            rules.name_directors(targets, self._trust.next_director())
        elif name in rules.delegated(targets):
            rules.delegate(targets, name, signers.new(name))
        else:
            known = ", ".join([*OFFLINE, *ONLINE, DIRECTOR, *rules.delegated(targets)])
            raise MetadataFailed(f"{name!r} has no key here: there are {known}")
        return ROOT if name in {*OFFLINE, *ONLINE} else TARGETS

    def _delegated(self, repository: Repository, models: Sequence[str]) -> list[Change]:
        targets = repository.targets()
        for model in models:
            if model in rules.delegated(targets):
                raise MetadataFailed(
                    f"model {model!r} has its role already: littoral keys rotate {model} gives it a new key"
                )
            rules.check_model(model)
            rules.delegate(targets, model, self._trust.signers.first(model))
        return [(TARGETS, targets)]

    @staticmethod
    def _renewed(repository: Repository, roles: Sequence[str]) -> list[Change]:
        online = [role for role in roles if role not in OFFLINE]
        if online:
            raise MetadataFailed(f"{online[0]} is signed by the server, which renews it: only root and targets wait")
        contents = {ROOT: repository.root(), TARGETS: repository.targets()}
        return [(role, contents[role]) for role in OFFLINE if role in roles]

    @staticmethod
    def _need(repository: Repository) -> None:
        if not repository.exists:
            raise MetadataFailed("this fleet has no keys yet: littoral keys init makes them, or the first start does")


def read_draft(data: bytes) -> tuple[Metadata[Any], str]:
    """An exported change and its role. Raises MetadataFailed for anything else."""
    try:
        metadata = Metadata.from_bytes(data)
    except DeserializationError as error:
        raise MetadataFailed(f"this is no exported change: {error}") from error
    if metadata.signed.type not in OFFLINE:
        raise MetadataFailed(f"this is {metadata.signed.type} metadata: only root and targets are signed offline")
    return metadata, metadata.signed.type


def sign_draft(data: bytes, offline: Path) -> tuple[bytes, int]:
    """An exported change signed with the keys in `offline` too, and how many they are. Needs no data folder."""
    metadata, role = read_draft(data)
    signers = Signers(offline, offline).of(role)
    if not signers:
        raise MetadataFailed(f"there are no keys for {role} in {offline}: they are files named {role}-1.key and so on")
    try:
        for signer in signers:
            metadata.sign(signer, append=True)
    except RepositoryError as error:
        raise MetadataFailed(f"the change cannot be signed: {error}") from error
    return metadata.to_bytes(), len(signers)
