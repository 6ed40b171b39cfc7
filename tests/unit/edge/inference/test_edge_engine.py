"""The engine: batches of any size, and no model but the one that its manifest describes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.inference.engine import MAX_BATCH, BadModel, Engine, tensor_specs
from protos.v1.manifest_pb2 import DELEGATE_DEFAULT, DELEGATE_NONE, Delegate, Preprocessing, Variant
from tests import tiny_models

FILES = {"int8": tiny_models.int8(tiny_models.weights()), "float32": tiny_models.float32(tiny_models.weights())}


def variant_of(name: str) -> Variant:
    input_spec, output_spec = tensor_specs(FILES[name])
    return Variant(name=name, input=input_spec, output=output_spec)


def engine_of(name: str) -> Engine:
    return Engine(FILES[name], variant_of(name), tiny_models.preprocessing())


@pytest.mark.parametrize("name", FILES)
def test_the_class_is_the_highest_output_and_the_confidence_its_real_value(name: str) -> None:
    answers = engine_of(name).classify(tiny_models.frames())
    assert answers.label.tolist() == [0, 1, 2, 3]
    assert answers.label.dtype == np.uint16
    assert answers.confidence.dtype == np.float32
    assert answers.confidence == pytest.approx([240 / 255] * 4, abs=0.02)


@pytest.mark.parametrize("name", FILES)
def test_a_variant_without_a_delegate_is_run_by_the_interpreters_own_kernels(name: str) -> None:
    def operators(delegate: Delegate.ValueType) -> list[str]:
        variant = variant_of(name)
        variant.delegate = delegate
        engine = Engine(FILES[name], variant, tiny_models.preprocessing())
        assert engine.classify(tiny_models.frames()).label.tolist() == [0, 1, 2, 3]
        return [detail["op_name"] for detail in engine._interpreter._get_ops_details()]

    assert "DELEGATE" in operators(DELEGATE_DEFAULT)
    assert operators(DELEGATE_NONE) == ["FULLY_CONNECTED"]


@pytest.mark.parametrize("count", [0, 1, 3, MAX_BATCH - 1, MAX_BATCH, MAX_BATCH + 1, 3 * MAX_BATCH + 5])
def test_any_number_of_frames_gives_the_answers_of_single_frames(count: int) -> None:
    engine = engine_of("int8")
    frames = np.random.default_rng(count).integers(0, 256, (count, 2, 2), np.uint8)
    single = [engine.raw(frame[None])[0] for frame in frames]
    assert np.array_equal(engine.raw(frames), np.array(single, np.int8).reshape(count, 4))


def test_a_model_is_read_from_a_file_as_from_bytes(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(FILES["int8"])
    from_file = Engine(path, variant_of("int8"), tiny_models.preprocessing(), threads=2)
    assert np.array_equal(from_file.raw(tiny_models.frames()), engine_of("int8").raw(tiny_models.frames()))


@pytest.mark.parametrize(
    "frames", [np.zeros((1, 2, 3), np.uint8), np.zeros((2, 2), np.uint8), np.zeros((1, 2, 2), np.float32)]
)
def test_frames_of_another_shape_or_dtype_are_refused(frames: np.ndarray) -> None:
    with pytest.raises(ValueError, match="takes uint8 frames"):
        engine_of("int8").raw(frames)


@pytest.mark.parametrize("data", [b"", b"no model", FILES["int8"][:200]])
def test_bytes_that_are_no_model_are_a_bad_model(data: bytes) -> None:
    with pytest.raises(BadModel):
        Engine(data, variant_of("int8"), tiny_models.preprocessing())


def test_a_file_that_is_not_there_is_a_bad_model(tmp_path: Path) -> None:
    with pytest.raises(BadModel):
        Engine(tmp_path / "missing.tflite", variant_of("int8"), tiny_models.preprocessing())


def test_a_model_with_other_tensors_than_its_manifest_says_is_a_bad_model() -> None:
    with pytest.raises(BadModel, match="the manifest says"):
        Engine(FILES["int8"], variant_of("float32"), tiny_models.preprocessing())
    shifted = variant_of("int8")
    shifted.output.zero_point += 1
    with pytest.raises(BadModel, match="output"):
        Engine(FILES["int8"], shifted, tiny_models.preprocessing())


def test_a_frame_that_does_not_fill_the_input_is_a_bad_model_from_the_start() -> None:
    with pytest.raises(BadModel, match="frame"):
        Engine(FILES["int8"], variant_of("int8"), Preprocessing(frame_shape=(3, 3), scale=1 / 255))
