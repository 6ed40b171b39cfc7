"""Several models at once: the device's inference, slot by slot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from edge.inference.entities import Blueprint
from edge.inference.service import Inference
from edge.uplink.entities import NewBatch
from protos.topics import DEFAULT_SLOT


class UnknownSlot(ValueError):
    """This device has no such slot; the message says which it has."""


class BySlot:
    """The inference of each slot by the slot's name, the device's main slot first. There is at least one."""

    def __init__(self, inferences: Mapping[str, Inference]) -> None:
        self._inferences = dict(inferences)

    @classmethod
    def of_one(cls, inference: Inference | BySlot) -> BySlot:
        """The same, or that of a device with this one model."""
        return cls({DEFAULT_SLOT: inference}) if isinstance(inference, Inference) else inference

    def __iter__(self) -> Iterator[Inference]:
        return iter(self._inferences.values())

    @property
    def main(self) -> Inference:
        """Where frames go whose source names no slot."""
        return next(iter(self))

    def of(self, slot: str) -> Inference:
        """The inference of this slot, of the main one for an empty name. Raises UnknownSlot."""
        if not slot:
            return self.main
        if slot not in self._inferences:
            raise UnknownSlot(f"there is no slot {slot!r} on this device: it has {', '.join(self._inferences)}")
        return self._inferences[slot]

    def serving(self) -> list[Blueprint]:
        """The models that serve now, the main slot's first."""
        return [inference.blueprint for inference in self if inference.blueprint]

    def on_results(self, listener: Callable[[NewBatch], None]) -> None:
        """As `Inference.on_results`, for the results of all slots."""
        for inference in self:
            inference.on_results(listener)
