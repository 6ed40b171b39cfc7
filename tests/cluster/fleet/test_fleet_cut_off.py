"""A node is cut off while a rollout is under way; it goes on by itself, and catches up once it is back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.fleet import sensors_kit
from tests.cluster.fleet.fleet_kit import AGENTS, EDGE, Fleet
from tests.waiting import until

GATES = {"leaseSeconds": 10}
READ = (
    "import sys, urllib.request as u; print(u.urlopen(f'http://{sys.argv[1]}:9464/metrics', timeout=5).read().decode())"
)


@pytest.fixture
def cut(fed: Fleet) -> Iterator[Fleet]:
    """The fleet under load, the second node cut off."""
    fed.cluster.cut(fed.fragile)
    yield fed
    fed.cluster.heal(fed.fragile)


def _agent(fleet: Fleet) -> dict[str, Any]:
    """What is known of the agent of the node that is cut off."""
    status: dict[str, Any] = next(
        it["status"] for it in fleet.listed(AGENTS, EDGE) if it["spec"]["nodeName"] == fleet.fragile
    )
    return status


def _restarts(fleet: Fleet) -> int:
    """How often the agent's container was started again."""
    return sum(it["restartCount"] for it in _agent(fleet)["containerStatuses"])


def _inferred(fleet: Fleet) -> float:
    """How many frames the agent of the node that is cut off has inferred, as it says itself on its node."""
    address = _agent(fleet)["podIP"]
    said = fleet.cluster.on(fleet.fragile, sys.executable, "-c", READ, address).out.splitlines()
    return sum(float(line.split()[-1]) for line in said if line.startswith("littoral_inferences_total"))


def test_a_rollout_goes_on_without_a_node_that_is_cut_off_which_takes_the_model_when_it_is_back(cut: Fleet) -> None:
    former, restarts = cut.versions()[cut.fragile], _restarts(cut)
    version = cut.train("cut", 1)
    cut.roll_out("cut", version, gates=GATES, waves=["rest"])

    until(lambda: cut.versions()[cut.safe] == version, 0.5)
    until(lambda: cut.rollout("cut")["devices"].get("unreachable") == 1, 0.5)
    assert cut.versions()[cut.fragile] == former
    before = _inferred(cut)
    until(lambda: _inferred(cut) > before + sensors_kit.RATE, 0.5)

    cut.cluster.heal(cut.fragile)
    until(lambda: cut.versions()[cut.fragile] == version, 0.5)
    assert sensors_kit.books(cut) == {(0, 0)}
    assert _restarts(cut) == restarts


def test_a_node_that_is_back_does_not_take_what_was_revoked_meanwhile(cut: Fleet) -> None:
    former = cut.versions()[cut.fragile]
    version = cut.train("revoked", 1)
    cut.roll_out("revoked", version, gates={"soakSeconds": 3600})
    until(lambda: cut.versions()[cut.safe] == version, 0.5)

    cut.kubectl("-n", "littoral", "delete", "modelrollout", "revoked", "--wait")
    until(lambda: cut.versions()[cut.safe] == former, 0.5)
    cut.cluster.heal(cut.fragile)
    until(lambda: all(it["online"] for it in cut.get("devices")), 0.5)

    assert sensors_kit.books(cut) == {(0, 0)}
    assert cut.versions() == {cut.safe: former, cut.fragile: former}
    assert [it for it in cut.get(f"receipts?device={cut.fragile}") if it["version"] == version] == []
