"""A measured value beside the baseline of the same run: absolute figures move from machine to machine, ratios less."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass

GOALS = {">=": operator.ge, "<=": operator.le}


@dataclass(frozen=True, slots=True)
class Measure:
    """One value with its unit and baseline, and the goal; empty: there is none.

    A goal such as ">= 1.0" bounds their ratio, one such as "value <= 20" the value itself.
    """

    value: float
    unit: str
    baseline: float
    goal: str = ""

    @property
    def ratio(self) -> float:
        """Value by baseline; not a number without a baseline."""
        return self.value / self.baseline if self.baseline else float("nan")

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None if there is none."""
        if not self.goal:
            return None
        *of_value, sign, limit = self.goal.split()
        return bool(GOALS[sign](self.value if of_value else self.ratio, float(limit)))


Measures = Mapping[str, Measure]


def as_json(name: str, measures: Measures) -> dict[str, object]:
    """The file's form: {"name", "measures": {measure: {"value", "unit", "baseline", "ratio", "goal"}}}."""
    return {
        "name": name,
        "measures": {
            key: {
                "value": measure.value,
                "unit": measure.unit,
                "baseline": measure.baseline,
                "ratio": measure.ratio if measure.baseline else None,
                "goal": measure.goal or None,
            }
            for key, measure in measures.items()
        },
    }
