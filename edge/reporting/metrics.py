"""The agent's state as Prometheus metrics, read at each scrape. https://prometheus.io/docs/practices/naming/"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
)
from prometheus_client.registry import Collector

from edge.foundation.version import agent_version
from edge.inference.service import Inference
from edge.inference.sinks import Sink
from edge.reporting.service import Parts
from edge.update.entities import State
from edge.update.service import Updater
from edge.uplink.entities import Depth
from edge.uplink.rpc import State as UplinkState
from protos.kit.latency import BOUNDS_US

SLOT = "slot"
KIND = "kind"

_Family = TypeVar("_Family", CounterMetricFamily, GaugeMetricFamily)


def registry(parts: Parts, sinks: Mapping[str, Sink]) -> CollectorRegistry:
    """All that a scrape of this agent returns, its process and its Python included. sinks: by name."""
    made = CollectorRegistry()
    made.register(_Agent(parts, sinks))
    for own in (ProcessCollector, PlatformCollector, GCCollector):
        own(registry=made)
    return made


class _Agent(Collector):
    """Reads the parts; changes nothing, and never waits for the event loop."""

    def __init__(self, parts: Parts, sinks: Mapping[str, Sink]) -> None:
        self._parts = parts
        self._sinks = sinks

    def collect(self) -> Iterator[Metric]:
        """Every metric of ours."""
        yield InfoMetricFamily("littoral_agent", "The agent.", {"version": agent_version()})
        yield from _inference({name: slot.inference for name, slot in self._parts.slots.items()})
        yield from _outboxes({str(kind): outbox.depth() for kind, outbox in self._parts.outboxes.items()})
        is_streaming = self._parts.uplink() == UplinkState.STREAMING
        yield GaugeMetricFamily("littoral_uplink_streaming", "1 while results flow to the cloud.", is_streaming)
        yield from _update({name: slot.updater for name, slot in self._parts.slots.items()})
        yield _each(
            CounterMetricFamily("littoral_sink_lost_batches", "Results that a sink lost.", labels=["sink"]),
            {name: sink.dropped for name, sink in self._sinks.items()},
        )
        yield GaugeMetricFamily("littoral_alarms", "What a person should look at.", len(self._parts.alarms()))


def _inference(inferences: Mapping[str, Inference]) -> Iterator[Metric]:
    """By slot."""
    for name, told, read in _COUNTED:
        yield _each(CounterMetricFamily(name, told, labels=[SLOT]), {slot: read(i) for slot, i in inferences.items()})
    queued = GaugeMetricFamily("littoral_queued_frames", "Frames handed in and not settled yet.", labels=[SLOT])
    yield _each(queued, {slot: inference.queued for slot, inference in inferences.items()})
    latency = HistogramMetricFamily("littoral_latency_seconds", "Frame taken to result.", labels=[SLOT])
    for slot, inference in inferences.items():
        counts, sum_us = inference.latency_histogram()
        latency.add_metric([slot], _buckets(counts), sum_us / 1e6)
    yield latency


_COUNTED: tuple[tuple[str, str, Callable[[Inference], int]], ...] = (
    ("littoral_inferences", "Frames with a result.", lambda inference: inference.inferences),
    ("littoral_inference_errors", "Frames without a result.", lambda inference: inference.errors),
    ("littoral_frames_dropped", "Frames that overload dropped.", lambda inference: inference.dropped),
    ("littoral_worker_crashes", "Ends of a model's process that nobody ordered.", lambda inference: inference.crashes),
)


def _each(family: _Family, values: Mapping[str, float]) -> _Family:
    """A sample for each value of the family's one label."""
    for label, value in values.items():
        family.add_metric([label], value)
    return family


def _buckets(counts: tuple[int, ...]) -> list[tuple[str, float]]:
    """As Prometheus has them: cumulative, by upper bound in seconds."""
    found, total = [], 0
    for bound, count in zip([*(f"{bound / 1e6:g}" for bound in BOUNDS_US), "+Inf"], counts, strict=True):
        total += count
        found.append((bound, float(total)))
    return found


def _outboxes(depths: Mapping[str, Depth]) -> Iterator[Metric]:
    """By kind."""
    rows = GaugeMetricFamily("littoral_outbox_rows", "What the cloud has not acknowledged.", labels=[KIND])
    yield _each(rows, {kind: depth.rows for kind, depth in depths.items()})
    size = GaugeMetricFamily("littoral_outbox_bytes", "Its size.", labels=[KIND])
    yield _each(size, {kind: depth.bytes for kind, depth in depths.items()})
    dropped = CounterMetricFamily(
        "littoral_outbox_dropped", "What the outbox's bound has cost since its epoch began.", labels=[KIND]
    )
    yield _each(dropped, {kind: depth.dropped for kind, depth in depths.items()})


def _update(updaters: Mapping[str, Updater]) -> Iterator[Metric]:
    """By slot."""
    states = StateSetMetricFamily("littoral_update_state", "How far the newest deployment has come.", labels=[SLOT])
    generation = GaugeMetricFamily("littoral_update_generation", "Of the newest deployment.", labels=[SLOT])
    models = InfoMetricFamily("littoral_model", "The model that answers.", labels=[SLOT])
    for slot, updater in updaters.items():
        states.add_metric([slot], {state.value: state is updater.update.state for state in State})
        if running := updater.running:
            told = {"model": running.model, "version": str(running.version), "manifest": running.manifest.hex()}
            models.add_metric([slot], told)
    yield states
    yield _each(generation, {slot: updater.update.generation for slot, updater in updaters.items()})
    yield models
