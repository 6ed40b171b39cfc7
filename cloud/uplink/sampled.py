"""The frames of results that devices sent as samples. A room above this one keeps them: it is asked by a function."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol, TypeAlias

from cloud.foundation.database import Transaction
from cloud.uplink.questions import Sampled

Frame: TypeAlias = tuple[int, int]
"""A source by its integer name, and the number of the frame."""


class SamplesOf(Protocol):
    """Tells which frames there are, however many it is asked for in one question to the database."""

    def __call__(self, transaction: Transaction, frames: Collection[Frame], /) -> Mapping[Frame, Sampled]:
        """Those of the frames that were sent, each with its first sample."""


def no_samples(_: Transaction, __: Collection[Frame], /) -> Mapping[Frame, Sampled]:
    """Where nobody keeps samples."""
    return {}
