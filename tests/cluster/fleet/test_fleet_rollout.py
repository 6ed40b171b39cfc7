"""`kubectl apply` of a ModelRollout, and what becomes of it on real nodes."""

from __future__ import annotations

from tests.cluster.fleet.fleet_kit import Fleet
from tests.waiting import until


def test_an_applied_rollout_brings_every_node_to_the_model_and_tells_the_truth_on_the_way(fleet: Fleet) -> None:
    version = fleet.train("told", 1)
    fleet.roll_out("told", version, paused=True)
    until(lambda: fleet.phase("told") == "Paused")
    assert version not in fleet.versions().values()

    fleet.roll_out("told", version, gates={"soakSeconds": 8})
    until(lambda: fleet.rollout("told").get("done") == "1/2")
    shown = fleet.kubectl("-n", "littoral", "get", "modelrollouts", "told", "--no-headers").split()
    assert shown[1:6] == ["digits", str(version), "Progressing", "1/2", "1/2"]
    assert list(fleet.versions().values()).count(version) == 1

    fleet.succeeded("told")
    assert set(fleet.versions().values()) == {version}
    receipts = fleet.get("receipts?outcome=committed")
    assert {it["device"] for it in receipts if it["version"] == version} == {fleet.safe, fleet.fragile}
    shown = fleet.kubectl("-n", "littoral", "get", "modelrollouts", "told", "--no-headers").split()
    assert shown[1:6] == ["digits", str(version), "Succeeded", "2/2", "2/2"]
