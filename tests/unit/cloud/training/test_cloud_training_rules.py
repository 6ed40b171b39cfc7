"""Training's decisions: the length, the gate after quantisation, the golden vectors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.training.entities import NoProgress, QuantisationLoss
from cloud.training.rules import (
    MOST_TRIES,
    check_progress,
    check_quantisation,
    choose_golden,
    default_epochs,
    epoch_order,
    margins,
    share_of,
)


@given(st.integers(1, 10**7), st.integers(1, 10**7))
def test_more_images_never_mean_more_epochs(some: int, others: int) -> None:
    fewer, more = sorted((some, others))
    assert default_epochs(fewer) >= default_epochs(more) >= 1


@given(st.integers(1, 10_000), st.data())
def test_int8_may_lose_one_point_and_no_more(images: int, data: st.DataObject) -> None:
    right_float = data.draw(st.integers(0, images))
    right_int8 = data.draw(st.integers(0, images))
    if (right_float - right_int8) * 100 <= images:
        check_quantisation(right_float / images, right_int8 / images)
    else:
        with pytest.raises(QuantisationLoss, match="nothing was published"):
            check_quantisation(right_float / images, right_int8 / images)


def test_the_refusal_names_both_accuracies() -> None:
    with pytest.raises(QuantisationLoss, match=r"float 99\.00%, int8 97\.50%"):
        check_quantisation(0.99, 0.975)


def test_the_margin_is_the_lead_over_the_second_best() -> None:
    scores = np.array([[0.7, 0.1, 0.2], [0.3, 0.4, 0.3]], np.float32)
    assert margins(scores) == pytest.approx([0.5, 0.1])


def test_golden_vectors_take_the_classes_in_turn() -> None:
    classes = np.array([0, 0, 0, 1, 1, 2])
    margin = np.full(6, 0.95, np.float32)
    chosen = choose_golden(classes, margin, count=5)
    assert sorted(classes[chosen[:3]]) == [0, 1, 2]
    assert sorted(classes[chosen[3:]]) == [0, 1]


def test_golden_vectors_are_sure_but_not_saturated() -> None:
    margin = np.array([1.0, 0.91, 0.5, 0.89], np.float32)
    assert choose_golden(np.zeros(4, int), margin, count=4) == [1, 0, 3, 2]


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1, width=32)), max_size=60), st.integers(1, 12))
def test_golden_vectors_are_different_frames_of_as_many_classes_as_there_are(
    frames: list[tuple[int, float]], count: int
) -> None:
    classes = np.array([label for label, _ in frames], np.int64)
    chosen = choose_golden(classes, np.array([margin for _, margin in frames], np.float32), count)
    assert len(set(chosen)) == len(chosen) == min(count, len(frames))
    assert len(set(classes[chosen])) == min(count, len(set(classes)))


@given(st.integers(0, 2146), st.integers(0, 50), st.integers(1, 16), st.integers(1, 8), st.integers(1, 12))
def test_an_epoch_is_shared_out_so_that_each_image_is_learnt_from_by_one_replica_once(
    seed: int, epoch: int, replicas: int, share: int, steps: int
) -> None:
    batch = replicas * share
    order = epoch_order(seed, epoch, steps * batch, steps, batch)
    learnt = []
    for replica in range(replicas):
        first, end = share_of(replica, batch, replicas)
        assert end - first == share
        learnt += order[:, first:end].ravel().tolist()
    assert sorted(learnt) == list(range(steps * batch))


def test_every_worker_and_every_repetition_computes_the_same_order_and_each_epoch_has_its_own() -> None:
    assert np.array_equal(epoch_order(1, 3, 100, 3, 32), epoch_order(1, 3, 100, 3, 32))
    assert not np.array_equal(epoch_order(1, 3, 100, 3, 32), epoch_order(1, 4, 100, 3, 32))
    assert not np.array_equal(epoch_order(1, 3, 100, 3, 32), epoch_order(2, 3, 100, 3, 32))


def test_a_training_that_is_always_cut_off_before_an_epochs_end_gives_up_in_the_end() -> None:
    check_progress(3, MOST_TRIES)
    with pytest.raises(NoProgress, match="after 3 epochs"):
        check_progress(3, MOST_TRIES + 1)
