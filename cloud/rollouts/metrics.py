"""What Prometheus is told of the rollouts: how many are in which state, as the database has it when it asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import structlog
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from cloud.foundation.metrics import DATABASE_ERRORS
from cloud.rollouts.entities import State

log = structlog.get_logger()


class RolloutStates(Collector):
    """Reads at each scrape; while the database does not answer there is no such metric, as Prometheus expects."""

    def __init__(self, counts: Callable[[], Mapping[State, int]]) -> None:
        self._counts = counts

    def describe(self) -> Iterable[Metric]:
        """The metric without its numbers: to be registered asks nothing of the database."""
        return [_family()]

    def collect(self) -> Iterable[Metric]:
        """Every state, those without a rollout with 0."""
        try:
            counts = self._counts()
        except Exception as error:  # noqa: BLE001 - the other metrics must be told all the same
            DATABASE_ERRORS.labels("metrics").inc()
            log.warning("rollouts not counted", error=str(error).partition("\n")[0])
            return
        family = _family()
        for state in State:
            family.add_metric([state.value], counts.get(state, 0))
        yield family


def _family() -> GaugeMetricFamily:
    return GaugeMetricFamily("littoral_rollouts", "Rollouts by their state.", labels=["state"])
