"""What is told of inference beside its numbers: troubles that a person may want to know of later. Pure."""

from __future__ import annotations

from edge.foundation.events import Event, Severity
from edge.inference.entities import Blueprint


def process_ended(blueprint: Blueprint, why: str) -> Event:
    """The model's process ended, and nobody had ordered that."""
    return Event("inference.process_ended", why, Severity.ERROR, model=blueprint.model, version=blueprint.version)


def not_durable(error: Exception) -> Event:
    """Results cannot be written down; frames wait as long."""
    return Event("inference.not_durable", f"results wait for the disk: {error}", Severity.ERROR)


def source_unusable(source: str, error: Exception) -> Event:
    """No frames come from a source now."""
    text = f"source {source} cannot be used: {error}"
    return Event("inference.source_unusable", text, Severity.WARNING, about=source)


def sink_loses(sink: str, lost: int, reason: str) -> Event:
    """A sink has lost so many batches of results since that was told last."""
    text = f"results to {sink} are lost: {reason}"
    return Event("inference.sink_loses", text, Severity.WARNING, about=sink, times=lost)


def failed(name: str, error: Exception) -> Event:
    """A source or sink stumbled over what nobody thought of, and begins again."""
    text = f"{name} failed, and begins again: {type(error).__name__}: {error}"
    return Event("inference.end_failed", text, Severity.ERROR, about=name)
