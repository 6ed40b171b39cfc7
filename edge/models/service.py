"""The model store: stage, try, commit or go back; a kill at any instruction leaves exactly the old or the new model."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import structlog

from edge.models import journal
from edge.models.entities import Installed, Place, WrongStep
from edge.models.journal import Journal
from edge.models.places import MANIFEST_FILE, MODEL_FILE, proven
from protos.kit.files import remove_leftovers, sync_folder, write_durably

log = structlog.get_logger()


class ModelStore:
    """The two places of one slot, below `folder`/`slot`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._journal = journal.read(folder)
        self._staged = ""  # a place; needs no journal: after a restart the updater asks again for what it needs

    @classmethod
    def open(cls, folder: Path, slot: str) -> ModelStore:
        """The store of `slot`. A trial that a kill interrupted is over: the committed model counts."""
        place = folder / slot
        place.mkdir(parents=True, exist_ok=True)
        remove_leftovers(place)
        store = cls(place)
        if store._journal.trial:
            store._write(replace(store._journal, trial=""))
        return store

    @property
    def slot(self) -> str:
        """Its name."""
        return self._folder.name

    @property
    def folder(self) -> Path:
        """Where all that belongs to the slot's models lies."""
        return self._folder

    def running(self) -> Installed | None:
        """The committed model, proven anew; None: there is none.

        If its bytes have decayed, the one that was committed before it takes its place, if it lies here whole; one that
        was never committed does not.
        """
        installed = self._proven(self._journal.committed)
        if installed is None and self._journal.former:
            self._fall_back()
            installed = self._proven(self._journal.committed)
        return installed

    def staged(self) -> Installed | None:
        """The model that `begin_trial` would put on trial, proven anew; None: there is none."""
        return self._proven(self._staged)

    def held(self, manifest: bytes) -> Installed | None:
        """The model with this manifest digest, if it lies here whole; it is then staged where it lies."""
        for name, place in self._journal.places.items():
            if place.manifest == manifest.hex() and (installed := self._proven(name)):
                self._staged = name
                return installed
        return None

    def files(self) -> dict[bytes, Path]:
        """The files that lie here whole, by their digest: a new one may have much in common with them."""
        found = [self._proven(name) for name in self._journal.places]
        return {installed.variant.artifact.digest: installed.path for installed in found if installed}

    def stage(self, payload: bytes, variant: str, artifact: Path) -> Installed:
        """Put a verified model into the spare place. Raises OSError, and WrongStep for a variant it does not have."""
        target = self._journal.spare
        self._staged = ""
        self._write(replace(self._journal.emptied(target), trial=""))
        place = self._folder / target
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(exist_ok=True)
        write_durably(place / MANIFEST_FILE, payload)
        _copy_durably(artifact, place / MODEL_FILE)
        sync_folder(self._folder)
        record = Place(hashlib.sha256(payload).hexdigest(), variant)
        self._write(self._journal.filled(target, record))
        self._staged = target
        installed = self.staged()
        if installed is None:
            raise WrongStep(f"{artifact} is not variant {variant!r} of the manifest")
        return installed

    def begin_trial(self) -> None:
        """The staged model is about to be used. Raises WrongStep if none is staged."""
        if not self._staged:
            raise WrongStep("no model is staged")
        self._write(replace(self._journal, trial=self._staged))

    def commit(self) -> None:
        """The model on trial is the device's model from now on. Raises WrongStep without a trial."""
        if not self._journal.trial:
            raise WrongStep("no trial runs")
        self._write(self._journal.with_committed(self._journal.trial))

    def roll_back(self) -> None:
        """The committed model stays; one on trial is over. Without a trial nothing changes."""
        if self._journal.trial:
            self._write(replace(self._journal, trial=""))

    @property
    def recalled(self) -> str:
        """Digest in hex of the manifest that this device was told to go back from since the last commit."""
        return self._journal.recalled

    def recall(self) -> None:
        """The model that was committed before is the device's model again. Raises WrongStep if it is not here whole."""
        if self._proven(self._journal.former) is None:
            raise WrongStep("no model that was committed before lies whole on this device")
        self._write(self._journal.gone_back())

    def clear(self) -> None:
        """No model is committed any more; the files stay until they are replaced."""
        self._write(replace(self._journal, committed="", trial="", former="", recalled=""))
        self._staged = ""

    def _write(self, wanted: Journal) -> None:
        if wanted != self._journal:
            journal.write(self._folder, wanted)
            self._journal = wanted

    def _fall_back(self) -> None:
        log.error("the committed model has decayed; the one before it takes its place", folder=str(self._folder))
        fallen = self._journal.fallen_back()
        try:
            self._write(fallen)
        except OSError as error:
            # A disk that takes no writes may still have a good model on it: use it, and find out again at each start.
            log.error("that cannot be written down", folder=str(self._folder), error=str(error))
            self._journal = fallen

    def _proven(self, name: str) -> Installed | None:
        place = self._journal.places.get(name)
        return proven(self._folder / name, place) if place else None


def _copy_durably(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("wb") as writer:
        shutil.copyfileobj(reader, writer)
        writer.flush()
        os.fsync(writer.fileno())
    sync_folder(target.parent)
