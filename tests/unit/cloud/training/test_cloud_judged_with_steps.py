"""A model whose manifest resizes and colours: the cloud judges it and the device proves it by the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloud.training.evaluation import golden_vectors, judge
from edge.inference.golden import outputs_digest
from edge.update import trial
from protos.v1.manifest_pb2 import COLOUR_GREY, Manifest, Preprocessing, Size
from tests import tiny_models

INT8 = tiny_models.int8(tiny_models.weights())
STEPS = Preprocessing(
    frame_shape=(6, 6, 3),
    scale=1 / 255,
    colour=COLOUR_GREY,
    resize=Size(height=4, width=4),
    crop=Size(height=2, width=2),
)


def pictures() -> np.ndarray:
    """Four of 6 x 6 pixels: in picture i the quarter i is bright, and bluish."""
    small = np.repeat(tiny_models.frames()[..., None], 3, axis=3)
    small[..., 0] //= 2
    return np.repeat(np.repeat(small, 3, axis=1), 3, axis=2)


def test_what_the_cloud_answered_the_device_answers_to_the_bit(tmp_path: Path) -> None:
    judged = judge("int8", INT8, pictures(), np.arange(4), steps=STEPS)
    assert judged.accuracy == 1
    golden = golden_vectors({"int8": judged}, pictures())
    (tmp_path / "model").write_bytes(INT8)
    proof = trial.run(
        Manifest(variants=[judged.variant], preprocessing=STEPS, golden=golden), tmp_path / "model", "int8"
    )
    wanted = np.stack([np.frombuffer(vector.expected[0].output, np.int8) for vector in golden])
    assert proof == {"problem": "", "golden_outputs": outputs_digest(wanted).hex()}


@pytest.mark.parametrize(
    "changed",
    [
        Preprocessing(frame_shape=(6, 6, 3), scale=1 / 255, resize=Size(height=4, width=4)),
        Preprocessing(frame_shape=(6, 6), scale=1 / 255, resize=Size(height=2, width=2)),
    ],
)
def test_steps_that_do_not_fill_the_input_are_a_problem_of_the_model(tmp_path: Path, changed: Preprocessing) -> None:
    judged = judge("int8", INT8, pictures(), np.arange(4), steps=STEPS)
    golden = golden_vectors({"int8": judged}, pictures())
    (tmp_path / "model").write_bytes(INT8)
    manifest = Manifest(variants=[judged.variant], preprocessing=changed, golden=golden)
    assert trial.run(manifest, tmp_path / "model", "int8")["problem"]
