"""Labelled images: the digits that scikit-learn ships, or a folder with MNIST's IDX files."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud.training.entities import UnreadableDataset

EMBEDDED = "digits"
EMBEDDED_FILE = "datasets/data/digits.csv.gz"
SIDE = 28
HELD_OUT_EVERY = 4

Images = NDArray[np.uint8]
Labels = NDArray[np.uint8]

IDX_UNSIGNED_BYTES = 0x08
_IMAGES, _LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"


@dataclass(frozen=True, slots=True)
class Dataset:
    """Images uint8 (n, height, width) with labels uint8 (n,), for training and held out. digest: SHA-256 over all."""

    name: str
    digest: bytes
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels

    @property
    def classes(self) -> int:
        """Number of classes: the labels are 0 to classes - 1."""
        return int(max(self.train_labels.max(), self.test_labels.max())) + 1

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Height and width."""
        return self.train_images.shape[1:]


def load(source: str | Path) -> Dataset:
    """The data set `source`: "digits", or a folder with MNIST's four IDX files, gzipped or not.

    Raises UnreadableDataset.
    """
    return _embedded() if str(source) == EMBEDDED else _folder(Path(source))


def dataset(name: str, train: tuple[Images, Labels], test: tuple[Images, Labels]) -> Dataset:
    """A data set of these images and labels. Raises UnreadableDataset if they do not belong together."""
    for part, (images, labels) in (("training", train), ("held-out", test)):
        if len(images) != len(labels) or not len(images):
            raise UnreadableDataset(
                f"{name}: {len(images)} {part} images, {len(labels)} labels: each image needs one, and none is too few"
            )
    if train[0].shape[1:] != test[0].shape[1:]:
        raise UnreadableDataset(f"{name}: training images are {train[0].shape[1:]}, held-out {test[0].shape[1:]}")
    return Dataset(name, _digest(*train, *test), *train, *test)


def _embedded() -> Dataset:
    table = _embedded_table()
    images, labels = _enlarged(table[:, :-1].reshape(-1, 8, 8) / 16.0), table[:, -1].astype(np.uint8)
    held_out = _every(labels, HELD_OUT_EVERY)
    return dataset(EMBEDDED, (images[~held_out], labels[~held_out]), (images[held_out], labels[held_out]))


def _embedded_table() -> NDArray[np.uint8]:
    """(n, 65): 64 grey values 0 to 16 and the label. Read from scikit-learn's file: to import it would take seconds."""
    package = find_spec("sklearn")
    places = package.submodule_search_locations if package else None
    path = Path(next(iter(places or [""])), EMBEDDED_FILE)
    if not path.is_file():
        raise UnreadableDataset(f"scikit-learn's digits ({EMBEDDED_FILE}) are not here: pip install scikit-learn")
    return np.loadtxt(path, np.uint8, delimiter=",")


def _every(labels: Labels, step: int) -> NDArray[np.bool_]:
    """Marks the last of each `step` images of a class: the same in every run, and every class has its share."""
    marked = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        marked[np.flatnonzero(labels == label)[step - 1 :: step]] = True
    return marked


def _enlarged(images: NDArray[np.float64]) -> Images:
    """Grey values 0..1 (n, h, w) to uint8 (n, SIDE, SIDE), linear between the centres of the pixels."""
    rows, columns = _interpolation(images.shape[1]), _interpolation(images.shape[2])
    return np.rint(rows @ images @ columns.T * 255).astype(np.uint8)


def _interpolation(size: int) -> NDArray[np.float64]:
    """Weights (SIDE, size) of the old pixels in each new one."""
    centres = np.clip((np.arange(SIDE) + 0.5) * size / SIDE - 0.5, 0, size - 1)
    weights: NDArray[np.float64] = np.clip(1 - np.abs(centres[:, None] - np.arange(size)), 0, 1)
    return weights


def _folder(folder: Path) -> Dataset:
    if not folder.is_dir():
        raise UnreadableDataset(f"{folder} is no folder: give one with MNIST's IDX files, or {EMBEDDED!r}")
    train = _idx(folder, f"train-{_IMAGES}", 3), _idx(folder, f"train-{_LABELS}", 1)
    test = _idx(folder, f"t10k-{_IMAGES}", 3), _idx(folder, f"t10k-{_LABELS}", 1)
    return dataset(folder.resolve().name, train, test)


def _idx(folder: Path, name: str, dimensions: int) -> NDArray[np.uint8]:
    """One IDX file of bytes: two zero bytes, type, number of dimensions, big-endian sizes, then the values."""
    path = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
    if path is None:
        raise UnreadableDataset(f"{folder} has neither {name} nor {name}.gz: all four files of MNIST are needed")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableDataset(f"{path} cannot be read: {error}") from error
    if data[:4] != bytes([0, 0, IDX_UNSIGNED_BYTES, dimensions]):
        raise UnreadableDataset(
            f"{path} is no IDX file of bytes in {dimensions} dimensions: it begins {data[:4].hex()}"
        )
    start = 4 + 4 * dimensions
    shape = tuple(int.from_bytes(data[place : place + 4], "big") for place in range(4, start, 4))
    if len(data) - start != int(np.prod(shape, dtype=object)):
        raise UnreadableDataset(f"{path} says it has the shape {shape}, but has {len(data) - start} values")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _digest(*arrays: NDArray[np.uint8]) -> bytes:
    whole = hashlib.sha256()
    for array in arrays:
        whole.update(repr(array.shape).encode())
        whole.update(np.ascontiguousarray(array).tobytes())
    return whole.digest()
