"""What lies in the places of a slot, proven by its digests. Nothing here changes the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import structlog
from google.protobuf.message import DecodeError

from edge.models import journal
from edge.models.entities import Installed, Kept, Place
from edge.models.journal import Journal
from protos.kit.files import digest_of
from protos.v1.manifest_pb2 import Manifest

MANIFEST_FILE = "manifest.pb"
MODEL_FILE = "model.tflite"

log = structlog.get_logger()


def proven(folder: Path, place: Place) -> Installed | None:
    """Flash wears out: what lies here is believed only as far as its digests hold."""
    try:
        payload = (folder / MANIFEST_FILE).read_bytes()
        _check("manifest", hashlib.sha256(payload).digest(), bytes.fromhex(place.manifest))
        manifest = Manifest.FromString(payload)
        variant = next(variant for variant in manifest.variants if variant.name == place.variant)
        _check("model", digest_of(folder / MODEL_FILE), variant.artifact.digest)
    except (OSError, ValueError, DecodeError, StopIteration) as error:
        log.error("a model on this device is damaged and is not used", folder=str(folder), error=repr(error))
        return None
    return Installed(bytes.fromhex(place.manifest), manifest, variant, folder / MODEL_FILE)


def _check(what: str, found: bytes, wanted: bytes) -> None:
    if found != wanted:
        raise ValueError(f"the {what}'s digest is wrong")


def committed(folder: Path) -> Installed | None:
    """What a start of the agent would serve with from the slot's `folder`; None: nothing that is whole."""
    book = journal.read(folder)
    found = (proven(folder / name, book.places[name]) for name in (book.committed, book.former) if name)
    return next((installed for installed in found if installed), None)


def recalled(folder: Path) -> bytes:
    """Digest of the manifest that the slot in `folder` was told to go back from; empty: none since the last commit."""
    return bytes.fromhex(journal.read(folder).recalled)


def slots(folder: Path) -> list[str]:
    """The slots that have models below `folder`."""
    return sorted(path.parent.name for path in folder.glob(f"*/{journal.FILE}"))


def kept(folder: Path, slot: str) -> Iterator[Kept]:
    """What lies in each place of a slot, in order."""
    book = journal.read(folder / slot)
    for name in journal.PLACES:
        place = book.places.get(name)
        if place is None:
            yield Kept(slot, name, "empty")
        else:
            yield _kept(folder / slot / name, slot, book, name, place)


def _kept(folder: Path, slot: str, book: Journal, name: str, place: Place) -> Kept:
    installed = proven(folder, place)
    placed_ms = installed.path.stat().st_mtime_ns // 1_000_000 if installed else 0
    return Kept(slot, name, _role(book, name, place), place, installed, placed_ms)


def _role(book: Journal, name: str, place: Place) -> str:
    roles = {book.former: "former", book.trial: "on trial", book.committed: "committed"}
    return roles.get(name) or ("rolled back" if place.manifest == book.recalled else "spare")
