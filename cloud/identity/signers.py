"""Private keys by role: those that the server needs, and the offline ones, in a folder that may be elsewhere.

A folder holds nothing but files, so that a Kubernetes Secret can be it. A role may have more key files than its
metadata names, while a key is being replaced; the metadata decides which count.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from securesystemslib.signer import CryptoSigner, SSlibKey

from cloud.identity.entities import OFFLINE, ONLINE
from protos.kit.keys import KeysFailed, load_or_create


class Signers:
    """online: the folder with the server's keys. offline: that of root and targets, which need not exist."""

    def __init__(self, online: Path, offline: Path) -> None:
        self._online = online
        _flatten(online)
        self.offline = offline

    @property
    def has_offline(self) -> bool:
        """Whether the offline keys are at hand now."""
        return self.offline.is_dir()

    def online(self) -> list[Path]:
        """The files of all keys that the server needs."""
        return sorted(self._online.glob("*.key"))

    def of(self, role: str) -> list[CryptoSigner]:
        """The role's signers that are here, the oldest first. Raises KeysFailed for a damaged key."""
        return [CryptoSigner(load_or_create(path)) for path in self._files(role)]

    def first(self, role: str) -> SSlibKey:
        """The public key of the role's newest key here, made if there is none. Raises KeysFailed."""
        paths = self._files(role)
        return _public(paths[-1]) if paths else self.new(role)

    def new(self, role: str) -> SSlibKey:
        """The public key of a new key for the role. Raises KeysFailed."""
        folder, stem = self._place(role)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise KeysFailed(f"key folder {folder} cannot be made: {error.strerror}") from error
        return _public(folder / f"{stem}{self._last_number(role) + 1}.key")

    def discard(self, role: str, still_good: Collection[str]) -> None:
        """Remove the role's keys here that no metadata names any more. still_good: key ids."""
        for path in self._files(role):
            if _public(path).keyid not in still_good:
                path.unlink()

    def _files(self, role: str) -> list[Path]:
        folder, stem = self._place(role)
        return sorted(folder.glob(f"{stem}*.key"), key=lambda path: _number(path, stem))

    def _last_number(self, role: str) -> int:
        _, stem = self._place(role)
        return max((_number(path, stem) for path in self._files(role)), default=0)

    def _place(self, role: str) -> tuple[Path, str]:
        """The folder of the role's keys, and how their names begin there."""
        if role in OFFLINE:
            return self.offline, f"{role}-"
        return self._online, f"{role}." if role in ONLINE else f"model.{role}."


def _public(path: Path) -> SSlibKey:
    return SSlibKey.from_crypto(load_or_create(path).public_key())


def _number(path: Path, stem: str) -> int:
    number = path.stem.removeprefix(stem)
    return int(number) if number.isdecimal() else 0


def _flatten(online: Path) -> None:
    """Bring keys to where they are sought: there were folders for them once."""
    for folder, name in [*((online / role, role) for role in ONLINE), *_models(online / "models")]:
        for path in sorted(folder.glob("*.key")):
            path.rename(online / f"{name}.{path.name}")


def _models(folder: Path) -> list[tuple[Path, str]]:
    return [(model, f"model.{model.name}") for model in folder.glob("*") if model.is_dir()]
