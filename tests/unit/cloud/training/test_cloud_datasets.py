"""Data sets: the embedded digits, and MNIST's files with everything that can be wrong with them."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from cloud.training import datasets
from cloud.training.entities import UnreadableDataset

FILES = {
    "train-images-idx3-ubyte": np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5),
    "train-labels-idx1-ubyte": np.array([0, 1, 2], np.uint8),
    "t10k-images-idx3-ubyte": np.zeros((2, 4, 5), np.uint8),
    "t10k-labels-idx1-ubyte": np.array([2, 1], np.uint8),
}


def idx(values: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, values in FILES.items():
        (tmp_path / name).write_bytes(idx(values))
    return tmp_path


def test_the_embedded_digits_are_real_size_and_hold_out_a_share_of_every_class() -> None:
    digits = datasets.load("digits")
    assert digits.train_images.shape[1:] == digits.test_images.shape[1:] == (28, 28)
    assert len(digits.train_labels) + len(digits.test_labels) == 1797
    assert digits.classes == 10
    shares = np.bincount(digits.test_labels) / (np.bincount(digits.train_labels) + np.bincount(digits.test_labels))
    assert (np.abs(shares - 0.25) < 0.01).all()


def test_the_embedded_digits_are_the_same_each_time_and_use_the_whole_range_of_grey() -> None:
    first, second = datasets.load("digits"), datasets.load("digits")
    assert first.digest == second.digest
    assert first.train_images.min() == 0
    assert first.train_images.max() == 255


def test_no_held_out_digit_is_trained_on() -> None:
    digits = datasets.load("digits")
    trained = {image.tobytes() for image in digits.train_images}
    assert not [image for image in digits.test_images if image.tobytes() in trained]


def test_a_folder_of_idx_files_is_read_and_named_after_itself(folder: Path) -> None:
    loaded = datasets.load(folder)
    assert loaded.name == folder.name
    assert np.array_equal(loaded.train_images, FILES["train-images-idx3-ubyte"])
    assert loaded.test_labels.tolist() == [2, 1]
    assert loaded.classes == 3
    assert loaded.frame_shape == (4, 5)


def test_gzipped_files_are_the_same_data(folder: Path) -> None:
    plain = datasets.load(str(folder))
    for name in FILES:
        path = folder / name
        path.with_name(f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert datasets.load(folder).digest == plain.digest


def test_one_changed_pixel_or_label_changes_the_digest(folder: Path) -> None:
    before = datasets.load(folder).digest
    labels = folder / "t10k-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x00")
    assert datasets.load(folder).digest != before


DAMAGE = {
    "missing": (lambda _: None, "four files"),
    "cut": (lambda data: data[:-1], "has the shape"),
    "longer": (lambda data: data + b"\0", "has the shape"),
    "no header": (lambda _: b"\0\0", "no IDX file"),
    "header cut": (lambda data: data[:5], "has the shape"),
    "other kind": (lambda data: b"\0\0\x0d" + data[3:], "no IDX file"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_refused_with_its_name(folder: Path, name: str, damage: str) -> None:
    damaged, reason = DAMAGE[damage]
    content = damaged((folder / name).read_bytes())
    (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
    with pytest.raises(UnreadableDataset, match=reason) as refusal:
        datasets.load(folder)
    assert name in str(refusal.value)


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"whole", mtime=0)[:-9]], ids=["not gzip", "cut"])
def test_a_damaged_gzip_file_is_refused_with_its_name(folder: Path, content: bytes) -> None:
    (folder / "train-labels-idx1-ubyte").unlink()
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(content)
    with pytest.raises(UnreadableDataset, match=r"train-labels-idx1-ubyte\.gz cannot be read"):
        datasets.load(folder)


def test_images_and_labels_that_do_not_belong_together_are_refused(folder: Path) -> None:
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.array([0, 1], np.uint8)))
    with pytest.raises(UnreadableDataset, match="3 training images, 2 labels"):
        datasets.load(folder)


def test_images_of_two_sizes_are_refused(folder: Path) -> None:
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((2, 5, 5), np.uint8)))
    with pytest.raises(UnreadableDataset, match=r"\(4, 5\), held-out \(5, 5\)"):
        datasets.load(folder)


def test_something_that_is_no_folder_is_refused_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(UnreadableDataset, match="'digits'"):
        datasets.load(tmp_path / "nowhere")
