"""What the API server itself fills in and refuses: every default and every rule of the CRDs."""

from __future__ import annotations

from typing import Any

import pytest

from cloud.cluster.entities import GROUPS, ROLLOUTS, RUNS
from tests.cluster.api.objects_kit import Objects, Refused

pytestmark = pytest.mark.timeout(300)

LEAST = {"model": "digits", "version": 1}
TRAINING = {"model": "digits", "data": "digits"}


def test_a_rollout_says_what_was_not_said(objects: Objects) -> None:
    assert objects.create(ROLLOUTS, LEAST)["spec"] == {
        "model": "digits",
        "version": 1,
        "slot": "default",
        "selector": {},
        "waves": ["1", "rest"],
        "gates": {
            "maxFailedShare": 0,
            "minSucceededShare": 1,
            "soakSeconds": 0,
            "leaseSeconds": 60,
            "timeoutSeconds": 300,
        },
        "paused": False,
        "attempt": 1,
        "deletionPolicy": "Abort",
    }


def test_gates_that_are_given_in_part_are_filled_in(objects: Objects) -> None:
    made = objects.create(ROLLOUTS, LEAST | {"gates": {"soakSeconds": 30}})
    assert made["spec"]["gates"] == {
        "maxFailedShare": 0,
        "minSucceededShare": 1,
        "soakSeconds": 30,
        "leaseSeconds": 60,
        "timeoutSeconds": 300,
    }


@pytest.mark.parametrize(
    "given",
    [
        {"waves": [1, "25%", "rest"]},
        {"waves": ["0.5%", "100%"]},
        {"waves": ["099%"]},
        {"waves": ["rest"]},
        {"waves": [999_999_999]},
        {"selector": {"topology.kubernetes.io/zone": "north", "empty": ""}},
        {"deviceGroup": "north"},
        {"slot": "doors.front-2"},
        {"deletionPolicy": "Keep"},
        {"version": 2**53},
    ],
    ids=str,
)
def test_a_sensible_rollout_is_taken(objects: Objects, given: dict[str, Any]) -> None:
    made = objects.create(ROLLOUTS, LEAST | given)
    assert given.items() <= made["spec"].items()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"model": ""}, "spec.model"),
        ({"model": "x" * 64}, "spec.model: Too long"),
        ({"version": 0}, "spec.version"),
        ({"version": "1"}, "spec.version"),
        ({"version": None}, "spec.version: Required value"),
        ({"model": None}, "spec.model: Required value"),
        ({"slot": "Doors"}, "spec.slot"),
        ({"slot": "-"}, "spec.slot"),
        ({"selector": {"x" * 254: "a"}}, "a label's key has 1 to 253 characters"),
        ({"selector": {"": "a"}}, "a label's key has 1 to 253 characters"),
        ({"selector": {"site": "x" * 254}}, "spec.selector.site: Too long"),
        ({"selector": {str(number): "x" for number in range(17)}}, "spec.selector: Too many"),
        ({"selector": {"site": "a"}, "deviceGroup": "north"}, "give selector or deviceGroup, not both"),
        ({"deviceGroup": ""}, "spec.deviceGroup"),
        ({"waves": []}, "spec.waves"),
        ({"waves": ["1"] * 101}, "spec.waves: Too many"),
        ({"waves": ["many"]}, "a wave is a count such as 5, a share such as 25%, or rest"),
        ({"waves": ["0"]}, "a wave is a count such as 5, a share such as 25%, or rest"),
        ({"waves": [0]}, "a wave is a count such as 5, a share such as 25%, or rest"),
        ({"waves": [1_000_000_000]}, "a wave is a count such as 5, a share such as 25%, or rest"),
        ({"waves": ["1" * 17]}, "spec.waves[0]: Too long"),
        ({"waves": ["0%"]}, "a share is more than 0% and at most 100%"),
        ({"waves": ["0.0%"]}, "a share is more than 0% and at most 100%"),
        ({"waves": ["101%"]}, "a share is more than 0% and at most 100%"),
        ({"waves": ["100.1%"]}, "a share is more than 0% and at most 100%"),
        ({"waves": ["rest", 1]}, "rest takes everyone who is left: it must be the last wave"),
        ({"waves": ["rest", "rest"]}, "rest takes everyone who is left: it must be the last wave"),
        ({"gates": {"maxFailedShare": 1.5}}, "spec.gates.maxFailedShare"),
        ({"gates": {"minSucceededShare": -0.1}}, "spec.gates.minSucceededShare"),
        ({"gates": {"soakSeconds": -1}}, "spec.gates.soakSeconds"),
        ({"gates": {"leaseSeconds": 0}}, "spec.gates.leaseSeconds"),
        ({"gates": {"timeoutSeconds": 31622401}}, "spec.gates.timeoutSeconds"),
        ({"attempt": 0}, "spec.attempt"),
        ({"paused": "yes"}, "spec.paused"),
        ({"deletionPolicy": "Orphan"}, 'supported values: "Abort", "Keep"'),
    ],
    ids=str,
)
def test_a_rollout_that_makes_no_sense_is_refused_with_the_reason(
    objects: Objects, given: dict[str, Any], complaint: str
) -> None:
    asked = {name: value for name, value in (LEAST | given).items() if value is not None}
    with pytest.raises(Refused) as refused:
        objects.create(ROLLOUTS, asked)
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 2},
        {"model": "gates"},
        {"attempt": 2},
        {"paused": True},
        {"gates": {"soakSeconds": 5}},
        {"deletionPolicy": "Keep"},
        {"version": 2, "waves": ["rest"]},
        {"attempt": 2, "waves": ["rest"]},
    ],
    ids=str,
)
def test_what_may_change_in_place_is_taken(objects: Objects, changed: dict[str, Any]) -> None:
    objects.create(ROLLOUTS, LEAST)
    assert objects.edit(ROLLOUTS, **changed)["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"slot": "doors"}, "slot cannot change: make another ModelRollout for another slot"),
        ({"selector": {"site": "a"}}, "selector cannot change: make another ModelRollout for other devices"),
        ({"deviceGroup": "north"}, "deviceGroup cannot change: make another ModelRollout for other devices"),
        ({"waves": ["rest"]}, "waves cannot change under way: raise attempt with them to begin anew"),
        ({"attempt": 2}, "attempt only grows: each one is a rollout of its own"),
    ],
    ids=str,
)
def test_what_may_not_change_in_place_is_refused_with_what_to_do(
    objects: Objects, changed: dict[str, Any], complaint: str
) -> None:
    objects.create(ROLLOUTS, LEAST | {"attempt": 3})
    with pytest.raises(Refused) as refused:
        objects.edit(ROLLOUTS, **changed)
    assert complaint in str(refused.value)


def test_a_group_that_was_named_stays_named(objects: Objects) -> None:
    objects.create(ROLLOUTS, LEAST | {"deviceGroup": "north"})
    for other in ("south", None):
        with pytest.raises(Refused, match="deviceGroup cannot change"):
            objects.edit(ROLLOUTS, deviceGroup=other)


def test_applied_again_as_it_was_written_nothing_changes(objects: Objects) -> None:
    before = objects.create(ROLLOUTS, LEAST | {"waves": [1, "rest"]})
    after = objects.edit(ROLLOUTS, **LEAST, waves=[1, "rest"])
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def test_a_group_selects_by_labels(objects: Objects) -> None:
    made = objects.create(GROUPS, {"selector": {"matchLabels": {"site": "a"}}})
    assert made["spec"] == {"selector": {"matchLabels": {"site": "a"}}}
    assert objects.edit(GROUPS, selector={"matchLabels": {"site": "b"}})["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({}, "spec.selector: Required value"),
        ({"selector": {}}, "spec.selector.matchLabels: Required value"),
        ({"selector": {"matchLabels": {"": "a"}}}, "a label's key has 1 to 253 characters"),
        ({"selector": {"matchLabels": {"site": 1}}}, "spec.selector.matchLabels.site"),
        ({"selector": {"matchLabels": {str(n): "x" for n in range(17)}}}, "spec.selector.matchLabels: Too many"),
    ],
    ids=str,
)
def test_a_group_that_makes_no_sense_is_refused(objects: Objects, given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(Refused) as refused:
        objects.create(GROUPS, given)
    assert complaint in str(refused.value)


def test_a_training_run_says_what_was_not_said(objects: Objects) -> None:
    assert objects.create(RUNS, TRAINING)["spec"] == TRAINING | {"seed": 1, "workers": 1, "backoffLimit": 6}


@pytest.mark.parametrize(
    "given",
    [
        {"workers": 16, "checkpoints": {"persistentVolumeClaim": "kept"}},
        {"checkpoints": {"hostPath": "/srv/checkpoints"}, "dataVolume": {"persistentVolumeClaim": "mnist"}},
        {"epochs": 12, "seed": 0, "image": "littoral-training:1", "backoffLimit": 0},
        {"resources": {"requests": {"cpu": 1, "memory": "2Gi"}, "limits": {"cpu": "500m", "nvidia.com/gpu": "1"}}},
        {"nodeSelector": {"kubernetes.io/arch": "amd64"}},
    ],
    ids=str,
)
def test_a_sensible_training_run_is_taken(objects: Objects, given: dict[str, Any]) -> None:
    assert given.items() <= objects.create(RUNS, TRAINING | given)["spec"].items()


BOTH = {"persistentVolumeClaim": "kept", "hostPath": "/srv"}


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"model": "Digits"}, "spec.model"),
        ({"data": ""}, "spec.data"),
        ({"data": None}, "spec.data: Required value"),
        ({"epochs": 0}, "spec.epochs"),
        ({"seed": 2147}, "spec.seed"),
        ({"workers": 0}, "spec.workers"),
        ({"workers": 17, "checkpoints": {"hostPath": "/srv"}}, "spec.workers"),
        ({"workers": 2}, "several workers need checkpoints"),
        ({"checkpoints": {}}, "give persistentVolumeClaim or hostPath, one of them"),
        ({"checkpoints": BOTH}, "give persistentVolumeClaim or hostPath, one of them"),
        ({"dataVolume": BOTH}, "give persistentVolumeClaim or hostPath, one of them"),
        ({"checkpoints": {"hostPath": "srv"}}, "spec.checkpoints.hostPath"),
        ({"resources": {"limits": {"memory": "much"}}}, "spec.resources.limits.memory"),
        ({"backoffLimit": 101}, "spec.backoffLimit"),
    ],
    ids=str,
)
def test_a_training_run_that_makes_no_sense_is_refused(objects: Objects, given: dict[str, Any], complaint: str) -> None:
    asked = {name: value for name, value in (TRAINING | given).items() if value is not None}
    with pytest.raises(Refused) as refused:
        objects.create(RUNS, asked)
    assert complaint in str(refused.value)


@pytest.mark.parametrize("name", ["2nd", "a.b", "x" * 58])
def test_a_training_runs_name_must_serve_as_a_host_name(objects: Objects, name: str) -> None:
    with pytest.raises(Refused, match="name is part of its workers' host names"):
        objects.create(RUNS, TRAINING, name)


def test_a_training_run_happens_once(objects: Objects) -> None:
    objects.create(RUNS, TRAINING)
    assert objects.edit(RUNS, **TRAINING)["metadata"]["generation"] == 1
    with pytest.raises(Refused, match="a TrainingRun happens once: create another one with another name"):
        objects.edit(RUNS, seed=2)


@pytest.mark.parametrize(
    ("kind", "spec", "columns"),
    [
        (ROLLOUTS, LEAST, ["Name", "Model", "Version", "Phase", "Wave", "Done", "Failed", "Rollout", "Message", "Age"]),
        (GROUPS, {"selector": {"matchLabels": {}}}, ["Name", "Devices", "Online", "Cordoned", "NotReady", "Age"]),
        (RUNS, TRAINING, ["Name", "Model", "Workers", "Phase", "Epoch", "Restarts", "Version", "Message", "Age"]),
    ],
)
def test_kubectl_get_shows_how_it_stands(objects: Objects, kind: str, spec: dict[str, Any], columns: list[str]) -> None:
    objects.create(kind, spec)
    assert list(objects.columns(kind)) == columns


@pytest.mark.parametrize(("kind", "spec"), [(ROLLOUTS, LEAST), (RUNS, TRAINING)])
def test_the_status_is_not_written_with_the_spec(objects: Objects, kind: str, spec: dict[str, Any]) -> None:
    objects.create(kind, spec)
    body = {"status": {"phase": "Succeeded"}}
    objects.custom.patch_namespaced_custom_object("littoral.dev", "v1alpha1", objects.namespace, kind, "one", body)
    assert objects.status(kind) == {}
