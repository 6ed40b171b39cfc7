"""A look at how a model does in its trial."""

from __future__ import annotations

import asyncio
from typing import Protocol

from edge.inference.entities import Blueprint

WATCH_S = 0.05
"""Between two looks at the errors of a model on trial."""


class Serving(Protocol):
    """Where a model is put to use: `Inference` for the device's own, `Shadow` for a challenger."""

    @property
    def errors(self) -> int:
        """Frames that had no result, since the start."""

    @property
    def crashes(self) -> int:
        """Ends of the model's process that nobody ordered, since the start."""

    async def use(self, blueprint: Blueprint) -> None:
        """Put this model to work in place of the one before. Raises BadModel, or OSError."""

    def withdraw(self) -> None:
        """Use no model."""

    async def settled(self) -> None:
        """Return when all that is with the model now has its end."""


class Watch:
    """From its making on: what frames came to, and whether the model's process held."""

    def __init__(self, inference: Serving, trial_s: float) -> None:
        self._inference = inference
        self._trial_s = trial_s
        self._errors_before = inference.errors
        self._crashes_before = inference.crashes

    async def trouble(self) -> str:
        """What goes wrong until the trial is over; empty: nothing, and the model has held."""
        ending = asyncio.create_task(self._end(), name="end of a trial")
        try:
            while not ending.done():
                if trouble := self._trouble():
                    return trouble
                await asyncio.wait({ending}, timeout=WATCH_S)
        finally:
            ending.cancel()
        return self._trouble()

    async def _end(self) -> None:
        await asyncio.sleep(self._trial_s)
        await self._inference.settled()  # a model that hangs on its frames has not held

    def _trouble(self) -> str:
        trial = f"in the trial of {self._trial_s:g} s"
        if errors := self._inference.errors - self._errors_before:
            return f"{errors} frames had no result {trial}"
        if crashes := self._inference.crashes - self._crashes_before:
            return f"the model's process ended {crashes} times {trial}"
        return ""
