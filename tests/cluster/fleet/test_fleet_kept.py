"""Database and broker are killed under load, and come back with what was theirs."""

from __future__ import annotations

import pytest

from tests.cluster.fleet import sensors_kit
from tests.cluster.fleet.fleet_kit import CLOUD, GIVEN, KEPT, Fleet
from tests.waiting import until


def test_what_database_and_broker_keep_outlives_their_pods_and_nothing_is_lost_or_doubled(fed: Fleet) -> None:
    if GIVEN:
        pytest.skip("what keeps data on a given cluster is not known here")
    models, devices = fed.get("models"), fed.versions()
    former = {name: fed.named("pod", f"littoral-{name}-0")["metadata"]["uid"] for name in KEPT}

    fed.kubectl("-n", CLOUD, "delete", "pod", *(f"littoral-{name}-0" for name in KEPT), "--grace-period=0", "--force")
    until(lambda: all(_is_anew(fed, name, uid) for name, uid in former.items()), 0.5)
    fed.rolled_out()

    assert fed.get("models") == models
    assert sensors_kit.books(fed) == {(0, 0)}
    assert fed.versions() == devices


def _is_anew(fleet: Fleet, name: str, former: str) -> bool:
    found = [pod for pod in fleet.listed() if pod["metadata"]["name"] == f"littoral-{name}-0"]
    return bool(found) and found[0]["metadata"]["uid"] != former
