"""What is watched for drift, and how closely."""

from __future__ import annotations

from dataclasses import dataclass, field

from protos.kit.differences import Thresholds


@dataclass(frozen=True, slots=True)
class Limits:
    """window_s: how long is counted before it is compared; longer until there are enough frames."""

    window_s: float = 60.0
    thresholds: Thresholds = field(default_factory=Thresholds)
