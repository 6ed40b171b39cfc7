"""Training's decisions: how long, whether quantisation kept the model good, which frames prove it on a device."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cloud.training.entities import NoProgress, QuantisationLoss

T = TypeVar("T", int, Any)
"""A number, or a tensor that is known only when the graph runs."""

ALLOWED_LOSS = 0.01
GOLDEN_FRAMES = 8
MOST_TRIES = 20

EPOCHS_BY_IMAGES = ((3_000, 12), (30_000, 8))
EPOCHS_OF_MORE = 4

# Compiling takes 3 s on two cores and then saves a seventh of a step of 30 ms.
STEPS_WORTH_COMPILING = 1_000

# A margin of 0.9 stays on its class whatever the processor's rounding; a wider one would be saturated, and a
# saturated answer hardly changes when the model is damaged.
WANTED_MARGIN = 0.9


def default_epochs(images: int) -> int:
    """Epochs after which more change little, by the number of training images: few images are seen more often."""
    return next((epochs for limit, epochs in EPOCHS_BY_IMAGES if images < limit), EPOCHS_OF_MORE)


def compiling_pays(steps: int) -> bool:
    """Whether a training of so many steps ends sooner when it is compiled first."""
    return steps >= STEPS_WORTH_COMPILING


def epoch_order(seed: int, epoch: int, images: int, steps: int, batch: int) -> NDArray[np.int32]:
    """Which image each place of each step of an epoch (from 0) learns from: indices (steps, batch), each image once.

    It depends on nothing but these numbers: every worker, and every repetition, computes the same.
    """
    shuffled = np.random.default_rng((seed, epoch)).permutation(images)
    return shuffled[: steps * batch].reshape(steps, batch).astype(np.int32)


def share_of(replica: T, batch: int, replicas: int) -> tuple[T, T]:
    """The first place of a batch that a replica learns from, and the first of the next one's. Replicas divide batch."""
    share = batch // replicas
    return replica * share, (replica + 1) * share


def check_progress(epochs: int, tries: int) -> None:
    """Raise NoProgress if `tries` to go on after `epochs` are too many for bad luck: a cluster repeats without end."""
    if tries > MOST_TRIES:
        raise NoProgress(f"{MOST_TRIES} tries to go on after {epochs} epochs came to no other epoch's end")


def check_quantisation(accuracy_float: float, accuracy_int8: float) -> None:
    """Raise QuantisationLoss if int8 is right on more than ALLOWED_LOSS fewer of the held-out images than float."""
    lost = accuracy_float - accuracy_int8
    if lost > ALLOWED_LOSS + 1e-9:  # shares of counts: a loss of exactly one point is allowed
        raise QuantisationLoss(
            f"quantisation lost {lost:.2%} of accuracy (float {accuracy_float:.2%}, int8 {accuracy_int8:.2%}), "
            f"at most {ALLOWED_LOSS:.0%} is allowed: nothing was published. Train longer or on more varied images"
        )


def accuracy_floor(accuracies: Collection[float]) -> float:
    """What a variant must be right on to be run by a device, whichever is the fastest there."""
    return max(0.0, max(accuracies) - ALLOWED_LOSS)


def margins(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far the best class is ahead of the second, (n,), for scores (n, classes)."""
    two_best: NDArray[np.float32] = np.partition(scores, -2, axis=1)[:, -2:]
    return two_best[:, 1] - two_best[:, 0]


def choose_golden(classes: NDArray[np.integer], margin: NDArray[np.float32], count: int = GOLDEN_FRAMES) -> list[int]:
    """Indices of up to `count` frames to be golden vectors: as many classes as there are, in turn.

    classes: what the model answers, (n,). margin: its smallest margin among the variants, (n,). Within a class those
    that are just above WANTED_MARGIN come first, then those below it, the surest first.
    """
    enough = margin >= WANTED_MARGIN
    order = np.lexsort((np.where(enough, margin, -margin), ~enough))
    place_in_class = np.zeros(len(classes), np.int64)
    for label in np.unique(classes):
        members = order[classes[order] == label]
        place_in_class[members] = np.arange(len(members))
    rank = np.empty(len(classes), np.int64)
    rank[order] = np.arange(len(classes))
    return [int(index) for index in np.lexsort((rank, place_in_class))[:count]]
