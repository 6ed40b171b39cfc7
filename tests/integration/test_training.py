"""Training with TensorFlow: reproducible, quantised without loss, judged with the edge's code, refused when bad."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from click.testing import CliRunner

from cloud.app import compose
from cloud.foundation.settings import CloudSettings
from cloud.training import datasets, service
from cloud.training.commands import train
from cloud.training.converter import convert
from cloud.training.datasets import Dataset
from cloud.training.entities import FLOAT, INT8, PLAIN, Options, QuantisationLoss, Step, TrainedModel
from cloud.training.trainer import Trainer
from edge.inference import operators
from edge.inference.engine import Engine
from edge.inference.golden import check_golden, golden_frames
from protos.v1.manifest_pb2 import DELEGATE_NONE, Requirements
from simulators.faults import damage

pytestmark = pytest.mark.timeout(300)
EPOCHS = 3


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return datasets.load("digits")


@pytest.fixture(scope="module")
def told() -> list[Step]:
    return []


@pytest.fixture(scope="module")
def trained(digits: Dataset, told: list[Step]) -> TrainedModel:
    return service.train(digits, Options(epochs=EPOCHS), "test", told.append)


def few(digits: Dataset, count: int) -> Dataset:
    """The first images alone."""
    train = digits.train_images[:count], digits.train_labels[:count]
    return datasets.dataset("few", train, (digits.test_images[:count], digits.test_labels[:count]))


def engine(trained: TrainedModel, name: str, model: bytes | None = None) -> Engine:
    variant = next(variant for variant in trained.variants if variant.name == name)
    return Engine(model or trained.files[name], variant, trained.preprocessing)


def accuracy(trained: TrainedModel, name: str, model: bytes, digits: Dataset) -> float:
    answers = engine(trained, name, model).classify(digits.test_images)
    return float((answers.label == digits.test_labels).mean())


def golden_problems(trained: TrainedModel, name: str, model: bytes | None = None) -> list[str]:
    frames = golden_frames(trained.golden, trained.preprocessing.frame_shape)
    return check_golden(trained.golden, name, engine(trained, name, model).raw(frames))


def test_a_few_epochs_learn_the_digits_and_int8_keeps_it(trained: TrainedModel) -> None:
    assert trained.accuracy[FLOAT] > 0.9
    assert trained.accuracy[INT8] > trained.accuracy[FLOAT] - 0.01
    assert len(trained.files[INT8]) < len(trained.files[FLOAT]) / 3


def test_progress_is_told_to_the_end(trained: TrainedModel, told: list[Step]) -> None:
    assert trained
    assert [step.done for step in told] == sorted(step.done for step in told)
    assert (told[-1].done, told[-1].epoch, told[-1].epochs) == (1.0, EPOCHS, EPOCHS)
    assert told[-1].loss < told[0].loss


def test_int8_takes_the_pixels_with_their_highest_bit_flipped(trained: TrainedModel) -> None:
    spec = trained.variants[0].input
    assert (trained.variants[0].name, spec.dtype, spec.zero_point) == (INT8, "int8", -128)
    assert spec.scale == np.float32(1 / 255)


@pytest.mark.parametrize("name", [INT8, FLOAT])
def test_batch_normalisation_is_folded_into_the_convolutions(trained: TrainedModel, name: str) -> None:
    details = Interpreter(model_content=trained.files[name])._get_ops_details()
    operators = [detail["op_name"] for detail in details if detail["op_name"] != "DELEGATE"]
    assert operators == ["CONV_2D"] * 5 + ["MEAN", "FULLY_CONNECTED", "SOFTMAX"]


@pytest.mark.parametrize("name", [INT8, FLOAT])
def test_the_accuracy_is_what_the_edges_engine_answers(trained: TrainedModel, digits: Dataset, name: str) -> None:
    assert trained.accuracy[name] == accuracy(trained, name, trained.files[name], digits)


@pytest.mark.parametrize("name", [INT8, FLOAT])
def test_golden_vectors_pass_on_the_model_and_fail_on_a_damaged_one(
    trained: TrainedModel, digits: Dataset, name: str
) -> None:
    assert golden_problems(trained, name) == []
    damaged = damage(trained.files[name], lambda model: accuracy(trained, name, model, digits) < 0.85, seed=1)
    assert golden_problems(trained, name, damaged)


def test_golden_vectors_are_held_out_frames_of_different_classes(trained: TrainedModel, digits: Dataset) -> None:
    held_out = {image.tobytes() for image in digits.test_images}
    frames = golden_frames(trained.golden, (28, 28))
    assert all(frame.tobytes() in held_out for frame in frames)
    assert len(frames) == len(set(engine(trained, INT8).classify(frames).label)) == 8


def test_a_quantisation_that_loses_too_much_is_refused(trained: TrainedModel, digits: Dataset) -> None:
    limit = trained.accuracy[FLOAT] - 0.01
    damaged = damage(trained.files[INT8], lambda model: accuracy(trained, INT8, model, digits) < limit, seed=1)
    files = {FLOAT: trained.files[FLOAT], INT8: damaged}
    with pytest.raises(QuantisationLoss, match="nothing was published"):
        service.judged(digits, files, trained.lineage)


def test_the_draft_tells_where_the_model_comes_from(trained: TrainedModel, digits: Dataset) -> None:
    draft = service.draft(trained, "digits")
    assert {metric.name for metric in draft.metrics} == {"accuracy_float", "accuracy_int8"}
    assert draft.lineage.dataset_digest == digits.digest
    assert dict(draft.lineage.parameters) == {"batch": "64", "epochs": "3", "rate": "0.003", "seed": "1"}
    assert list(draft.labels) == [str(label) for label in range(10)]


def test_the_draft_says_how_accurate_each_variant_is_and_what_a_device_must_not_fall_below(
    trained: TrainedModel,
) -> None:
    draft = service.draft(trained, "digits")
    assert {variant.name: variant.accuracy for variant in draft.variants} == dict(trained.accuracy)
    assert draft.accuracy_floor == max(trained.accuracy.values()) - 0.01


def test_plain_variants_run_the_same_files_without_a_delegate(trained: TrainedModel, digits: Dataset) -> None:
    files = {**trained.files, **{name: trained.files[of] for name, of in PLAIN.items()}}
    plain = service.judged(few(digits, 200), files, trained.lineage)
    assert {variant.name for variant in plain.variants if variant.delegate == DELEGATE_NONE} == set(PLAIN)
    assert all(golden_problems(plain, name) == [] for name in files)


def test_the_draft_says_which_operators_a_device_must_know_and_what_else_was_asked_for(trained: TrainedModel) -> None:
    requires = service.draft(
        trained, "digits", Requirements(architectures=["x86_64"], agent_version="0.1")
    ).requirements
    assert (list(requires.architectures), requires.agent_version) == (["x86_64"], "0.1")
    needed = {one.variant: set(one.operators) for one in requires.operators}
    assert needed[INT8] >= needed[FLOAT] >= {"CONV_2D", "SOFTMAX"}
    known = operators.known()
    assert known
    assert known > needed[INT8]


def test_the_same_seed_gives_the_same_files_and_another_seed_others(digits: Dataset) -> None:
    some = few(digits, 128)

    def files(seed: int) -> dict[str, bytes]:
        network = Trainer(some, Options(seed=seed), epochs=1).run(lambda _: None)
        return convert(network, some.train_images)

    assert files(1) == files(1)
    assert files(1)[FLOAT] != files(2)[FLOAT]


def test_fewer_images_than_a_batch_are_one_batch(digits: Dataset) -> None:
    steps: list[Step] = []
    Trainer(few(digits, 20), Options(), epochs=2).run(steps.append)
    assert [step.epoch for step in steps] == [1, 2]


def test_a_compiled_training_is_reproducible_and_learns_the_same(digits: Dataset) -> None:
    def losses(*, compiled: bool) -> list[float]:
        steps: list[Step] = []
        Trainer(few(digits, 256), Options(), epochs=2, compiled=compiled).run(steps.append)
        return [step.loss for step in steps]

    assert losses(compiled=True) == losses(compiled=True)
    assert losses(compiled=True) == pytest.approx(losses(compiled=False), rel=0.05)


TWO_REPLICAS = """
import tensorflow as tf
processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
from cloud.training import datasets
from cloud.training.entities import Options
from cloud.training.trainer import Trainer
trainer = Trainer(datasets.load("digits"), Options(), 1, tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
steps = []
trainer.run(steps.append)
assert steps[-1].accuracy > 0.2, steps  # chance is 0.1
for variable in trainer.network.trainable_variables:
    first, second = trainer._strategy.experimental_local_results(variable.value)
    assert bool(tf.reduce_all(first == second)), variable.path
"""


def test_two_replicas_learn_together_and_keep_the_same_weights() -> None:
    # The logical devices must be set before TensorFlow starts, so it is a process of its own.
    subprocess.run([sys.executable, "-c", TWO_REPLICAS], check=True, cwd=Path(__file__).parents[2])


def test_the_command_registers_a_version_and_prints_one_object(tmp_path: Path) -> None:
    result = CliRunner().invoke(train, ["--dir", str(tmp_path / "data"), "--epochs", "3", "--json"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert (printed["model"], printed["version"]) == ("digits", 1)
    assert printed["seconds"] > 0
    assert printed["accuracy_int8"] > 0.9
    assert (tmp_path / "data" / "trust.json").exists()


def test_the_command_says_in_one_sentence_what_is_wrong_with_the_data(tmp_path: Path) -> None:
    result = CliRunner().invoke(train, ["--dir", str(tmp_path), "--data", str(tmp_path / "nowhere")])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert "nowhere" in result.stderr


@pytest.mark.parametrize(("model", "reason"), [("root", "no model can be named 'root'"), ("new", "keys delegate new")])
def test_a_model_that_could_not_be_listed_is_refused_before_it_is_trained(
    tmp_path: Path, model: str, reason: str
) -> None:
    with compose(CloudSettings(dir=tmp_path / "data")):
        (tmp_path / "data-offline-keys").rename(tmp_path / "away")
    result = CliRunner().invoke(train, ["--dir", str(tmp_path / "data"), "--model", model])
    assert (result.exit_code, result.stdout) == (1, "")
    assert reason in result.output


def test_a_model_name_that_cannot_stand_in_a_topic_is_refused_at_once(tmp_path: Path) -> None:
    result = CliRunner().invoke(train, ["--dir", str(tmp_path), "--model", "a/b"])
    assert result.exit_code == 2
    assert "'a/b' is not a name" in result.stderr
