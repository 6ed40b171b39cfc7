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
from tuf.api.metadata import Metadata, Timestamp
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
    """What verified metadata says. directors: whose deployments count; expires_ms: Unix time of its timestamp."""

    directors: Keys
    expires_ms: int
    target: bytes | None
    """SHA-256 that was asked for; None: not listed, or nothing was asked for."""


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
    return Verified(
        directors=_keys(named.custom if named else None),
        expires_ms=expires_ms(folder),
        target=bytes.fromhex(found.hashes["sha256"]) if found else None,
    )


def expires_ms(folder: Path) -> int:
    """When the newest timestamp in `folder` expires, as Unix time; 0: there is none that can be read."""
    try:
        return int(Metadata[Timestamp].from_file(str(folder / "timestamp.json")).signed.expires.timestamp() * 1000)
    except Exception:  # noqa: BLE001 - tuf's own reader raises what it likes; a damaged file is like none
        return 0


def _keys(custom: object) -> Keys:
    """The keys by the ids that are theirs. Raises RepositoryError: what is signed, and yet not this, is of no use."""
    try:
        assert isinstance(custom, dict)
        keys = [Ed25519PublicKey.from_public_bytes(bytes.fromhex(raw)) for raw in custom.values()]
    except (AssertionError, ValueError, TypeError) as error:
        raise RepositoryError(f"{DIRECTOR_KEYS} names no keys that this agent can read") from error
    return {key_id(key): key for key in keys}
