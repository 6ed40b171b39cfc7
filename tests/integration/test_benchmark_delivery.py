"""The benchmark `delivery` with fleets of one and three: what it measures is what it says."""

from __future__ import annotations

import shutil

import pytest

from benchmarks import delivery

pytestmark = pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")


def test_the_cloud_sends_one_artifact_to_any_number_of_devices_and_http_one_to_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "FLEETS", (1, 3))
    monkeypatch.setattr(delivery, "SIZES", {"": 100_000})
    monkeypatch.setattr(delivery, "LOSS_FLEETS", (2,))
    measures = delivery.run()
    for devices in (1, 3):
        assert measures[f"cloud_bytes_{devices}"].met
        assert measures[f"http_bytes_{devices}"].value == devices * measures[f"cloud_bytes_{devices}"].baseline
        assert 0 < measures[f"verification_{devices}"].ratio < 1
        assert measures[f"time_{devices}"].value > 0
    assert measures["order_bytes_3"].value > 2 * measures["order_bytes_1"].value
    assert measures["broker_loss_overhead_2"].value > 0
