"""A model that is trained in the cluster by two workers, of which one is killed."""

from __future__ import annotations

from tests.cluster.fleet.fleet_kit import CLOUD, MODEL, Fleet
from tests.cluster.fleet.images_kit import NOW
from tests.waiting import until

CHECKPOINTS = "/var/lib/littoral-checkpoints"
SIZE = "100Mi"


def _volume() -> list[dict[str, object]]:
    """A folder of the node that a worker is on; only the first worker writes into it."""
    claimed = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = {**claimed, "capacity": {"storage": SIZE}, "hostPath": {"path": CHECKPOINTS}}
    claim = {**claimed, "resources": {"requests": {"storage": SIZE}}, "volumeName": "checkpoints"}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "checkpoints"}, "spec": volume},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "checkpoints"}, "spec": claim},
    ]


def test_two_workers_train_on_after_one_is_killed_and_a_rollout_uses_what_they_registered(fleet: Fleet) -> None:
    for node in fleet.cluster.nodes:
        fleet.cluster.on(node, "install", "-d", "-o", "10001", "-g", "10001", CHECKPOINTS)
    spec = {"model": MODEL, "data": "digits", "epochs": 12, "workers": 2, "image": f"littoral-training:{NOW}",
            "checkpoints": {"persistentVolumeClaim": "checkpoints"}}  # fmt: skip
    run = {"apiVersion": "littoral.dev/v1alpha1", "kind": "TrainingRun", "metadata": {"name": "pair"}, "spec": spec}
    fleet.apply(*_volume(), run)

    until(lambda: str(_status(fleet).get("progress", "")).split("/")[0] not in {"", "0"}, 0.5)
    second = next(
        it
        for it in fleet.listed("littoral.dev/trainingrun=pair")
        if it["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "1"
    )
    fleet.kubectl("-n", CLOUD, "delete", "pod", second["metadata"]["name"], "--grace-period=0", "--force")

    until(lambda: _status(fleet).get("phase") in {"Succeeded", "Failed"}, 0.5)
    status = _status(fleet)
    assert status["phase"] == "Succeeded", status
    fleet.roll_out("trained", status["version"])
    fleet.succeeded("trained")
    assert set(fleet.versions().values()) == {status["version"]}
    lineage = fleet.get(f"models/{MODEL}/versions/{status['version']}")["lineage"]
    assert lineage["restarts"] >= 1


def _status(fleet: Fleet) -> dict[str, object]:
    found: dict[str, object] = fleet.named("trainingrun", "pair").get("status", {})
    return found
