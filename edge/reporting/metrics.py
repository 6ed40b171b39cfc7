"""The agent's state as Prometheus metrics, read at each scrape. https://prometheus.io/docs/practices/naming/"""

from __future__ import annotations

from collections.abc import Iterator

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
from edge.reporting.service import Parts
from edge.update.entities import State
from edge.update.service import Updater
from edge.uplink.outbox import Outbox
from edge.uplink.rpc import State as UplinkState
from protos.kit.latency import BOUNDS_US


def registry(parts: Parts) -> CollectorRegistry:
    """All that a scrape of this agent returns, its process and its Python included."""
    made = CollectorRegistry()
    made.register(_Agent(parts))
    for own in (ProcessCollector, PlatformCollector, GCCollector):
        own(registry=made)
    return made


class _Agent(Collector):
    """Reads the parts; changes nothing, and never waits for the event loop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        """Every metric of ours."""
        yield InfoMetricFamily("littoral_agent", "The agent.", {"version": agent_version()})
        yield from _inference(self._parts.inference)
        yield from _outbox(self._parts.outbox)
        is_streaming = self._parts.uplink() == UplinkState.STREAMING
        yield GaugeMetricFamily("littoral_uplink_streaming", "1 while results flow to the cloud.", is_streaming)
        yield from _update(self._parts.updater)
        yield GaugeMetricFamily("littoral_alarms", "What a person should look at.", len(self._parts.alarms()))


def _inference(inference: Inference) -> Iterator[Metric]:
    yield CounterMetricFamily("littoral_inferences", "Frames with a result.", inference.inferences)
    yield CounterMetricFamily("littoral_inference_errors", "Frames without a result.", inference.errors)
    yield CounterMetricFamily("littoral_frames_dropped", "Frames that overload dropped.", inference.dropped)
    yield CounterMetricFamily(
        "littoral_worker_crashes", "Ends of a model's process that nobody ordered.", inference.crashes
    )
    yield GaugeMetricFamily("littoral_queued_frames", "Frames handed in and not settled yet.", inference.queued)
    counts, sum_us = inference.latency_histogram()
    yield HistogramMetricFamily(
        "littoral_latency_seconds", "Frame taken to result.", buckets=_buckets(counts), sum_value=sum_us / 1e6
    )


def _buckets(counts: tuple[int, ...]) -> list[tuple[str, float]]:
    """As Prometheus has them: cumulative, by upper bound in seconds."""
    found, total = [], 0
    for bound, count in zip([*(f"{bound / 1e6:g}" for bound in BOUNDS_US), "+Inf"], counts, strict=True):
        total += count
        found.append((bound, float(total)))
    return found


def _outbox(outbox: Outbox) -> Iterator[Metric]:
    depth = outbox.depth()
    yield GaugeMetricFamily("littoral_outbox_rows", "Results that the cloud has not acknowledged.", depth.rows)
    yield GaugeMetricFamily("littoral_outbox_bytes", "Their size.", depth.bytes)
    yield CounterMetricFamily(
        "littoral_outbox_dropped", "Results that the outbox's bound has cost since its epoch began.", depth.dropped
    )


def _update(updater: Updater) -> Iterator[Metric]:
    now = updater.update.state
    yield StateSetMetricFamily(
        "littoral_update_state",
        "How far the newest deployment has come.",
        {state.value: state is now for state in State},
    )
    yield GaugeMetricFamily("littoral_update_generation", "Of the newest deployment.", updater.update.generation)
    running = updater.running
    if running:
        labels = {"model": running.model, "version": str(running.version), "manifest": running.manifest.hex()}
        yield InfoMetricFamily("littoral_model", "The model that answers.", labels)
