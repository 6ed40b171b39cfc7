"""A model at work, as the service sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from edge.inference.entities import Blueprint, Cost, MicroBatch, Outcome


class Answering(Protocol):
    """A model at work: it answers micro-batches one after the other, in the order in which it got them.

    on_lost: called with why its process ended, when nobody had ordered that, or could not be started again.
    """

    on_lost: Callable[[str], None]

    @property
    def blueprint(self) -> Blueprint:
        """What it was made from."""

    @property
    def cost(self) -> Cost:
        """What it takes here, as believed now."""

    @property
    def most(self) -> int:
        """Frames that a micro-batch may have."""

    @property
    def crashes(self) -> int:
        """How often its process ended without being told to."""

    @property
    def pid(self) -> int | None:
        """The process that answers now; None while it is started again."""

    def answer(self, batch: MicroBatch) -> asyncio.Future[Outcome]:
        """Take a micro-batch of at most `most` frames of the right size."""

    async def retire(self) -> None:
        """End, once all that it was given is answered. Give it no more."""

    async def close(self) -> None:
        """End now; what it has not answered was not tried."""


Start = Callable[[Blueprint, int], Awaitable[Answering]]
"""How a model is put to work, for micro-batches of at most so many frames. Raises BadModel, or OSError."""
