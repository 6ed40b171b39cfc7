from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cloud.foundation.database import Database
from cloud.identity.service import Identity
from cloud.registry.blobs import Blobs
from cloud.registry.service import Registry
from edge.inference.engine import Engine
from edge.inference.golden import check_golden
from protos.kit.envelope import MANIFEST as MANIFEST_PURPOSE
from protos.kit.envelope import parse, verify
from protos.v1.manifest_pb2 import Manifest
from simulators.faults import NotDamaged, answers_wrongly, bad_version, damage, register_bad
from simulators.reel import HeldOut
from tests import tiny_models

FILES = {
    "int8": tiny_models.int8(tiny_models.weights()),
    "float32": tiny_models.float32(tiny_models.weights()),
}
MANIFEST = tiny_models.manifest(FILES)
VARIANTS = {variant.name: variant for variant in MANIFEST.variants}


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_model_still_runs_but_its_golden_vectors_fail(name: str) -> None:
    damaged = damage(FILES[name], lambda model: answers_wrongly(model, VARIANTS[name], MANIFEST), seed=1)
    outputs = Engine(damaged, VARIANTS[name], MANIFEST.preprocessing).raw(tiny_models.frames())
    assert check_golden(MANIFEST.golden, name, outputs)


@pytest.mark.parametrize("name", FILES)
def test_an_undamaged_model_does_not_answer_wrongly(name: str) -> None:
    assert not answers_wrongly(FILES[name], VARIANTS[name], MANIFEST)


def test_a_file_that_cannot_be_loaded_does_not_count_as_answering_wrongly() -> None:
    assert not answers_wrongly(b"no model", VARIANTS["int8"], MANIFEST)


def test_damage_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    first, again, other = (damage(FILES["float32"], lambda _: True, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_damage_touches_only_weights() -> None:
    damaged = damage(FILES["int8"], lambda _: True, seed=1)
    weights = FILES["int8"].find(bytes([127, 0, 0, 0, 0, 127]))
    changed = {place for place, (a, b) in enumerate(zip(damaged, FILES["int8"], strict=True)) if a != b}
    assert changed
    assert changed <= set(range(weights, weights + 16))


def test_a_model_that_answers_rightly_whatever_its_weights_cannot_be_damaged() -> None:
    with pytest.raises(NotDamaged):
        damage(FILES["int8"], lambda _: False, seed=1)


DIGITS = HeldOut(tiny_models.frames(), np.arange(tiny_models.CLASSES))


def with_metrics() -> Manifest:
    manifest = tiny_models.manifest(FILES)
    for name in ("accuracy_int8", "accuracy_float"):
        manifest.metrics.add(name=name, value=1.0)
    return manifest


def test_a_bad_version_keeps_its_golden_vectors_and_tells_the_accuracy_of_the_damaged_files() -> None:
    good = with_metrics()
    draft, files = bad_version(good, FILES, DIGITS, seed=1)
    assert draft.golden == good.golden
    told = {metric.name: metric.value for metric in draft.metrics}
    for name, metric in (("int8", "accuracy_int8"), ("float32", "accuracy_float")):
        answers = Engine(files[name], VARIANTS[name], good.preprocessing).classify(DIGITS.images)
        assert told[metric] == (answers.label == DIGITS.labels).mean()
    assert told["accuracy_float"] < 1


def test_a_bad_version_is_registered_after_the_newest_and_rightly_signed(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'littoral.db'}")
    database.create()
    identity = Identity(tmp_path)
    registry = Registry(database, Blobs(tmp_path / "blobs"), identity.sign)
    registry.register(with_metrics(), FILES, 1)
    bad = register_bad(registry, "tiny", DIGITS, seed=1, now_ms=2)
    assert (bad.version, registry.latest("tiny")) == (2, bad)
    trusted = {
        key_id: Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        for key_id, key in identity.public()["manifest"].items()
    }
    assert verify(MANIFEST_PURPOSE, parse(registry.signed_manifest(bad.manifest_digest)), trusted) == bad.manifest
