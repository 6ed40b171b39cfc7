"""`littoral register`: a model that was trained elsewhere becomes a version, with the steps that prepare its frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from cloud.app import compose
from cloud.foundation.settings import CloudSettings
from cloud.training.commands import register
from protos.v1.manifest_pb2 import COLOUR_GREY, Manifest
from tests import tiny_models

MATRIX = tiny_models.weights()
STEPS = {"colour": "COLOUR_GREY", "resize": {"height": 2, "width": 2}, "scale": 1 / 255}


def pictures(count: int = 12) -> np.ndarray:
    """uint8 (count, 4, 4, 3): in picture i the quarter i % 4 is bright."""
    small = np.repeat(tiny_models.frames()[np.arange(count) % 4][..., None], 3, axis=3)
    return np.repeat(np.repeat(small, 2, axis=1), 2, axis=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "int8.tflite").write_bytes(tiny_models.int8(MATRIX))
    (tmp_path / "float.tflite").write_bytes(tiny_models.float32(MATRIX))
    (tmp_path / "wrong.tflite").write_bytes(tiny_models.int8(tiny_models.weights(1)))
    (tmp_path / "none.tflite").write_bytes(b"no model")
    (tmp_path / "steps.json").write_text(json.dumps(STEPS))
    np.savez(tmp_path / "data.npz", frames=pictures(), labels=np.arange(12) % 4)
    return tmp_path


def run(folder: Path, *variants: str, data: str = "data.npz", **more: str) -> Result:
    given = {"steps": str(folder / "steps.json")} | more
    arguments = ["--model", "quarters", "--data", str(folder / data), "--dir", str(folder / "cloud"), "--json"]
    for name, file in (text.split("=") for text in variants):
        arguments += ["--variant", f"{name}={folder / file}"]
    for name, value in given.items():
        arguments += [f"--{name}", value]
    return CliRunner().invoke(register, arguments)


def manifest(folder: Path) -> Manifest:
    with compose(CloudSettings(dir=folder / "cloud")) as rooms:
        return rooms.registry.latest("quarters").parsed()


def test_a_version_has_the_files_the_steps_and_what_the_devices_must_answer(folder: Path) -> None:
    done = run(folder, "int8=int8.tflite", "float32=float.tflite", labels="a, b, c, d")
    assert done.exit_code == 0, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    assert (told["version"], told["accuracy_int8"], told["accuracy_float"]) == (1, 1, 1)
    made = manifest(folder)
    assert list(made.preprocessing.frame_shape) == [4, 4, 3]
    assert made.preprocessing.colour == COLOUR_GREY
    assert [variant.name for variant in made.variants] == ["int8", "float32"]
    assert {expected.variant for vector in made.golden for expected in vector.expected} == {"int8", "float32"}
    assert list(made.labels) == ["a", "b", "c", "d"]
    assert made.lineage.dataset == "data.npz"


def test_one_variant_is_enough(folder: Path) -> None:
    assert run(folder, "int8=int8.tflite").exit_code == 0
    assert [metric.name for metric in manifest(folder).metrics] == ["accuracy_int8"]


def test_large_frames_leave_room_for_the_manifest(folder: Path) -> None:
    large = np.repeat(np.repeat(pictures(), 25, axis=1), 25, axis=2)  # 30 KB each
    np.savez(folder / "large.npz", frames=large, labels=np.arange(12) % 4)
    assert run(folder, "int8=int8.tflite", data="large.npz").exit_code == 0
    assert len(manifest(folder).golden) == 1


@pytest.mark.parametrize(
    ("variants", "more", "named"),
    [
        (["int8=none.tflite"], {}, "not a model"),
        (["float32=float.tflite", "int8=wrong.tflite"], {}, "quantisation lost 100.00%"),
        (["int8=int8.tflite"], {"labels": "a,b"}, "2 labels are named, the model has 4 classes"),
        (["int16=int8.tflite"], {}, "int8=FILE"),
        (["int8=missing.tflite"], {}, "files that exist"),
    ],
)
def test_what_is_no_version_is_refused_with_the_reason(
    folder: Path, variants: list[str], more: dict[str, str], named: str
) -> None:
    refused = run(folder, *variants, **more)
    assert refused.exit_code
    assert named in refused.stderr


@pytest.mark.parametrize(
    ("steps", "named"),
    [
        ({"colour": "COLOUR_GREY"}, "does not fill"),
        ({"colour": "PINK"}, "Invalid enum value PINK"),
        ({"frameShape": [9, 9]}, "does not fill"),
        ({"dtype": "float64"}, "float64"),
    ],
)
def test_steps_that_do_not_fit_are_refused_with_the_reason(folder: Path, steps: dict[str, object], named: str) -> None:
    (folder / "other.json").write_text(json.dumps(steps))
    refused = run(folder, "int8=int8.tflite", steps=str(folder / "other.json"))
    assert refused.exit_code
    assert named in refused.stderr


@pytest.mark.parametrize(
    "arrays",
    [
        {"frames": pictures()},
        {"frames": pictures(), "labels": np.arange(3)},
        {"frames": pictures(), "labels": np.full(12, 0.5)},
        {"frames": pictures(0), "labels": np.arange(0)},
        {"frames": np.array([{}]), "labels": np.arange(1)},
    ],
)
def test_data_that_are_no_labelled_frames_are_refused(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(folder / "bad.npz", **arrays)
    refused = run(folder, "int8=int8.tflite", data="bad.npz")
    assert refused.exit_code
    assert "is not an .npz file with the arrays frames" in refused.stderr
