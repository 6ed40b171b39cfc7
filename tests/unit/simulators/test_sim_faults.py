from __future__ import annotations

import pytest

from edge.inference.engine import Engine
from edge.inference.golden import check_golden
from simulators.faults import NotDamaged, answers_wrongly, damage
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
