"""A ModelRollout's life at a real API server, with the real controller and devices that answer."""

from __future__ import annotations

from typing import Any

import kubernetes
import pytest

from cloud.cluster.entities import GROUPS, ROLLOUTS
from cloud.cluster.handlers import FINALIZER
from cloud.rollouts.entities import MemberState
from tests.cluster.api.live_kit import Live
from tests.cluster.api.objects_kit import Objects

pytestmark = pytest.mark.timeout(300)

SPEC: dict[str, Any] = {"model": "digits", "version": 1}
SLOW = {"soakSeconds": 3600}


def phase(shore: Objects, wanted: str, generation: int = 1) -> bool:
    status = shore.status(ROLLOUTS)
    return (status.get("phase"), status.get("observedGeneration")) == (wanted, generation)


def test_applied_it_comes_to_its_end_and_kubectl_tells_the_truth(live: Live, shore: Objects) -> None:
    shore.create(ROLLOUTS, SPEC)
    live.until(lambda: phase(shore, "Succeeded"))
    shown = shore.columns(ROLLOUTS)
    assert (shown["Phase"], shown["Wave"], shown["Done"], shown["Failed"]) == ("Succeeded", "2/2", "3/3", 0)
    rollout = live.world.rollouts.get(shown["Rollout"])
    assert {member.state for member in rollout.members.values()} == {MemberState.SUCCEEDED}
    conditions = {one["type"]: one["status"] for one in shore.status(ROLLOUTS)["conditions"]}
    assert conditions == {"Accepted": "True", "Ready": "True", "Reconciling": "False", "Stalled": "False"}


def test_each_step_is_in_its_status(live: Live, shore: Objects) -> None:
    shore.create(ROLLOUTS, SPEC | {"gates": SLOW})
    live.until(lambda: shore.status(ROLLOUTS).get("done") == "1/3")
    found = shore.status(ROLLOUTS)
    assert (found["phase"], found["wave"], found["devices"]["pending"]) == ("Progressing", "1/2", 2)
    shore.edit(ROLLOUTS, paused=True)
    live.until(lambda: phase(shore, "Paused", 2))
    shore.edit(ROLLOUTS, paused=False)
    live.until(lambda: phase(shore, "Progressing", 3))
    shore.edit(ROLLOUTS, gates={"soakSeconds": 0})
    live.until(lambda: phase(shore, "Succeeded", 4))
    assert live.states() == [(1, "succeeded")]


def test_applied_again_nothing_is_written(live: Live, shore: Objects) -> None:
    shore.create(ROLLOUTS, SPEC)
    live.until(lambda: phase(shore, "Succeeded"))
    before = shore.get(ROLLOUTS)["metadata"]["resourceVersion"]
    shore.edit(ROLLOUTS, **SPEC)
    looked: list[None] = []
    live.until(lambda: looked.append(None) or len(looked) > 30)  # type: ignore[func-returns-value]
    assert shore.get(ROLLOUTS)["metadata"]["resourceVersion"] == before
    assert live.states() == [(1, "succeeded")]


def test_another_version_supersedes_what_is_under_way(live: Live, shore: Objects) -> None:
    shore.create(ROLLOUTS, SPEC | {"gates": SLOW})
    live.until(lambda: shore.status(ROLLOUTS).get("done") == "1/3")
    shore.edit(ROLLOUTS, version=2, gates={"soakSeconds": 0})
    live.until(lambda: phase(shore, "Succeeded", 2))
    assert live.states() == [(1, "superseded"), (2, "succeeded")]
    assert shore.status(ROLLOUTS)["version"] == 2


def test_a_version_that_is_not_registered_waits_and_says_so(live: Live, shore: Objects) -> None:
    shore.create(ROLLOUTS, SPEC | {"version": 99})
    live.until(lambda: phase(shore, "Pending"))
    (accepted,) = (one for one in shore.status(ROLLOUTS)["conditions"] if one["type"] == "Accepted")
    assert (accepted["status"], accepted["reason"], accepted["message"]) == ("False", "UnknownModel", "no digits 99")
    shore.edit(ROLLOUTS, version=1)
    live.until(lambda: phase(shore, "Succeeded", 2))


def test_a_group_selects_the_devices(live: Live, shore: Objects) -> None:
    shore.create(ROLLOUTS, SPEC | {"deviceGroup": "north"})
    live.until(lambda: "no DeviceGroup 'north'" in shore.status(ROLLOUTS).get("message", ""))
    shore.create(GROUPS, {"selector": {"matchLabels": {"site": "b"}}}, "north")
    live.until(lambda: phase(shore, "Succeeded"))
    assert shore.status(ROLLOUTS)["devices"]["total"] == 2
    live.until(lambda: shore.status(GROUPS, "north").get("online") == 2)


@pytest.mark.parametrize(("policy", "state"), [("Abort", "aborted"), ("Keep", "running")])
def test_deleted_it_ends_its_rollout_or_lets_it_go_on(live: Live, shore: Objects, policy: str, state: str) -> None:
    shore.create(ROLLOUTS, SPEC | {"gates": SLOW, "deletionPolicy": policy})
    live.until(lambda: shore.status(ROLLOUTS).get("done") == "1/3")
    assert shore.get(ROLLOUTS)["metadata"]["finalizers"] == [FINALIZER]
    shore.delete(ROLLOUTS)
    live.until(lambda: not shore.exists(ROLLOUTS))
    assert live.states() == [(1, state)]


def test_deleted_while_no_controller_runs_it_stays_until_one_has_ended_its_rollout(live: Live, shore: Objects) -> None:
    shore.create(ROLLOUTS, SPEC | {"gates": SLOW})
    live.until(lambda: shore.status(ROLLOUTS).get("done") == "1/3")
    live.stop()
    shore.delete(ROLLOUTS)
    assert shore.get(ROLLOUTS)["metadata"]["deletionTimestamp"]
    live.start("two")
    live.until(lambda: not shore.exists(ROLLOUTS))
    assert live.states() == [(1, "aborted")]


def test_of_two_controllers_one_acts_and_the_other_takes_over(live: Live, shore: Objects) -> None:
    live.start("two")
    shore.create(ROLLOUTS, SPEC)
    live.until(lambda: phase(shore, "Succeeded"))
    live.stop("one")
    shore.edit(ROLLOUTS, version=2)
    live.until(lambda: phase(shore, "Succeeded", 2))
    assert live.states() == [(1, "succeeded"), (2, "succeeded")]


def test_a_rollout_of_a_person_is_not_touched(live: Live, shore: Objects) -> None:
    live.devices_answer()
    live.world.create(2, site="a")
    shore.create(ROLLOUTS, SPEC | {"selector": {"site": "b"}, "paused": True})
    live.until(lambda: phase(shore, "Paused"))
    live.until(lambda: live.states() == [(2, "succeeded")])


def test_a_foreign_object_of_another_namespace_is_left_alone(
    live: Live, shore: Objects, client: kubernetes.client.ApiClient, namespace: str
) -> None:
    elsewhere = Objects(client, namespace)
    elsewhere.create(ROLLOUTS, SPEC | {"version": 3})
    shore.create(ROLLOUTS, SPEC)
    live.until(lambda: phase(shore, "Succeeded"))
    assert elsewhere.status(ROLLOUTS) == {}
    assert live.states() == [(1, "succeeded")]
