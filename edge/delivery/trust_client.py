"""TUF's own client, in a thread of its own, with what it knows kept durably and its files from our sources.

The Update Framework's detailed client workflow: https://theupdateframework.github.io/specification/v1.0.34/#detailed-client-workflow
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError
from tuf.api.metadata import Metadata, Targets, Timestamp
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from edge.delivery.entities import Absent, NotDelivered
from edge.delivery.trust_sources import Source
from protos.kit.envelope import key_id
from protos.kit.files import remove_leftovers, write_durably
from protos.topics import MAX_METADATA_BYTES

DIRECTOR_KEYS = "director/keys.json"
LIMITS = UpdaterConfig(
    max_root_rotations=64,
    max_delegations=4,
    root_max_length=MAX_METADATA_BYTES,
    timestamp_max_length=16 * 1024,
    snapshot_max_length=MAX_METADATA_BYTES,
    targets_max_length=MAX_METADATA_BYTES,
)

Keys = Mapping[str, Ed25519PublicKey]


@dataclass(frozen=True, slots=True)
class Verified:
    """What verified metadata says. directors: whose deployments count.

    version, expires_ms: of its timestamp, which has a new version after every change; Unix time.
    """

    directors: Keys
    version: int
    expires_ms: int
    targets: Mapping[str, bytes]
    """SHA-256 by target, of what the role lists that has the target that was asked for; empty: it is not listed."""


class Bridge(FetcherInterface):
    """Lets the client in its thread wait for a source on the event loop. Made on the loop; may be broken off there."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._waiting: Future[bytes] | None = None
        self._broken = False

    def break_off(self) -> None:
        """Let the thread end as soon as it can."""
        self._broken = True
        if self._waiting:
            self._waiting.cancel()

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            if self._broken:
                raise DownloadError("broken off")
            self._waiting = asyncio.run_coroutine_threadsafe(self._source.file(url.rpartition("/")[2]), self._loop)
            if self._broken:  # in between, when there was nothing yet to cancel
                self._waiting.cancel()
            return iter([self._waiting.result()])
        except Absent as error:
            raise DownloadHTTPError(str(error), 404) from error
        except (NotDelivered, CancelledError) as error:
            raise DownloadError(str(error)) from error


class DurableUpdater(Updater):
    """tuf's Updater, whose files also survive a power cut: it renames them into place, but does not sync them."""

    def _persist_file(self, filename: str, data: bytes) -> None:
        path = Path(filename)
        if not path.exists() or path.read_bytes() != data:  # tuf writes the root that it begins with each time
            write_durably(path, data)


def refresh(folder: Path, root: bytes, bridge: Bridge, target: str = "") -> Verified:
    """One refresh of the metadata in `folder`, from `root` on, and a look at `target`.

    Raises what tuf raises: DownloadError for what has not come, RepositoryError for what is not to be trusted, OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    updater = DurableUpdater(str(folder), "metadata", fetcher=bridge, config=LIMITS, bootstrap=root)
    updater.refresh()
    named = updater.get_targetinfo(DIRECTOR_KEYS)
    found = updater.get_targetinfo(target) if target else None
    timestamp = _timestamp(folder)
    return Verified(
        directors=_keys(named.custom if named else None),
        version=timestamp.version,
        expires_ms=_unix_ms(timestamp),
        targets=_listed(folder, target) if found else {},
    )


def _listed(folder: Path, target: str) -> Mapping[str, bytes]:
    """All that the role lists which answers for `target`: the client has just verified its file and put it there."""
    role = Metadata[Targets].from_file(str(folder / f"{target.partition('/')[0]}.json")).signed
    return {path: bytes.fromhex(listed.hashes["sha256"]) for path, listed in role.targets.items()}


def expires_ms(folder: Path) -> int:
    """When the newest timestamp in `folder` expires, as Unix time; 0: there is none that can be read."""
    try:
        return _unix_ms(_timestamp(folder))
    except Exception:  # noqa: BLE001 - tuf's own reader raises what it likes; a damaged file is like none
        return 0


def _timestamp(folder: Path) -> Timestamp:
    return Metadata[Timestamp].from_file(str(folder / "timestamp.json")).signed


def _unix_ms(timestamp: Timestamp) -> int:
    return int(timestamp.expires.timestamp() * 1000)


def _keys(custom: object) -> Keys:
    """The keys by the ids that are theirs. Raises RepositoryError: what is signed, and yet not this, is of no use."""
    try:
        assert isinstance(custom, dict)
        keys = [Ed25519PublicKey.from_public_bytes(bytes.fromhex(raw)) for raw in custom.values()]
    except (AssertionError, ValueError, TypeError) as error:
        raise RepositoryError(f"{DIRECTOR_KEYS} names no keys that this agent can read") from error
    return {key_id(key): key for key in keys}
