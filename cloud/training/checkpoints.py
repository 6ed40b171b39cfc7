"""What a training needs to go on after it was cut off: one file for each run, replaced as a whole after each epoch."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protos.kit.files import remove_leftovers, write_durably

State = Mapping[str, NDArray[np.generic]]

_EPOCHS, _RESTARTS, _TRIES, _OF, _STATE = "epochs", "restarts", "tries", "of", "state:"
_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """epochs: how many are done. restarts: how often the training was gone on with. tries: of these, since an epoch was
    done. state: weights, statistics, optimizer.
    """

    epochs: int
    restarts: int
    tries: int
    state: State


class Checkpoints:
    """The checkpoint of one run in `folder`. of: all that determines the result; another training's is not used."""

    def __init__(self, folder: Path, run: str, of: str) -> None:
        self.path = folder / f"{run}.checkpoint"
        self._of = of

    def load(self) -> Checkpoint | None:
        """Where the run stands; None: at its beginning, or what lies there is damaged or another training's."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            return None
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                if str(arrays[_OF]) != self._of:
                    return None
                state = {name.removeprefix(_STATE): arrays[name] for name in arrays.files if name.startswith(_STATE)}
                return Checkpoint(int(arrays[_EPOCHS]), int(arrays[_RESTARTS]), int(arrays[_TRIES]), state)
        except (KeyError, ValueError, zipfile.BadZipFile):  # of another version of this code
            return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace it, durably: after a crash at any instruction the old or the new one is there. Raises OSError."""
        content = io.BytesIO()
        arrays: dict[str, NDArray[np.generic]] = {f"{_STATE}{name}": value for name, value in checkpoint.state.items()}
        numbers = {_EPOCHS: checkpoint.epochs, _RESTARTS: checkpoint.restarts, _TRIES: checkpoint.tries}
        arrays |= {name: np.array(number, np.int64) for name, number in numbers.items()}
        np.savez(content, allow_pickle=False, **arrays, **{_OF: np.array(self._of)})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        data = content.getvalue()
        write_durably(self.path, hashlib.sha256(data).digest() + data)

    def remove(self) -> None:
        """Forget it, and what writes that were killed have left: the run is over."""
        self.path.unlink(missing_ok=True)
        remove_leftovers(self.path.parent, self.path.name)
