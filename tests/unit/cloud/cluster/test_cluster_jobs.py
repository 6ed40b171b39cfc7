"""A TrainingRun as a Job, and what the Job's course means for its status."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cluster_kit import UID, run

from cloud.cluster import jobs
from cloud.cluster.entities import Object, Worker, Workshop
from cloud.cluster.training import worker

NOW = "2026-11-25T10:00:00Z"
WORKSHOP = Workshop("littoral-training:0.1.0", "littoral-training", "http://littoral-api:8080")


def container(of: Object) -> dict[str, Any]:
    found: dict[str, Any] = jobs.job(of, WORKSHOP)["spec"]["template"]["spec"]["containers"][0]
    return found


def test_every_worker_finds_all_by_the_headless_services_names() -> None:
    told = json.loads(jobs.tf_config(run(workers=3)).replace("$(JOB_COMPLETION_INDEX)", "2"))
    assert told == {
        "cluster": {"worker": ["train-0.train:2222", "train-1.train:2222", "train-2.train:2222"]},
        "task": {"type": "worker", "index": 2},
    }
    assert jobs.service(run())["spec"]["clusterIP"] == "None"
    assert jobs.service(run())["spec"]["publishNotReadyAddresses"]
    assert jobs.job(run(), WORKSHOP)["spec"]["template"]["spec"]["subdomain"] == jobs.service(run())["metadata"]["name"]


def test_the_index_is_defined_before_it_is_used() -> None:
    names = [one["name"] for one in container(run())["env"]]
    assert names.index("JOB_COMPLETION_INDEX") < names.index("TF_CONFIG")


def test_workers_show_the_token_that_the_installation_has_for_them() -> None:
    named = replace(WORKSHOP, token="littoral-api")
    (worker_of,) = jobs.job(run(), named)["spec"]["template"]["spec"]["containers"]
    secret = {"secretKeyRef": {"name": "littoral-api", "key": "token"}}
    assert {"name": "LITTORAL_API_TOKEN", "valueFrom": secret} in worker_of["env"]
    assert "LITTORAL_API_TOKEN" not in {one["name"] for one in container(run())["env"]}


def test_the_job_has_a_worker_for_each_index_and_goes_with_its_run() -> None:
    made = jobs.job(run(workers=3, backoffLimit=2), WORKSHOP)
    assert {key: made["spec"][key] for key in ("completionMode", "completions", "parallelism", "backoffLimit")} == {
        "completionMode": "Indexed",
        "completions": 3,
        "parallelism": 3,
        "backoffLimit": 2,
    }
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("TrainingRun", UID, True)


def test_a_run_says_what_to_train_and_the_installation_where() -> None:
    made = container(run(epochs=3, seed=7, checkpoints={"persistentVolumeClaim": "kept"}))
    assert " ".join(made["args"]) == (
        f"train-worker --run train.{UID} --model digits --data digits --seed 7 --epochs 3 --checkpoints /checkpoints"
    )
    assert made["image"] == "littoral-training:0.1.0"
    assert {"name": "LITTORAL_API", "value": "http://littoral-api:8080"} in made["env"]
    assert container(run(image="mine:1"))["image"] == "mine:1"


def test_what_repeating_does_not_mend_ends_the_job_and_a_lost_peer_is_not_counted_twice() -> None:
    rules = jobs.job(run(), WORKSHOP)["spec"]["podFailurePolicy"]["rules"]
    by_code = {code: rule["action"] for rule in rules for code in rule.get("onExitCodes", {}).get("values", ())}
    assert by_code == {2: "FailJob", 65: "FailJob", 75: "Ignore"}


def test_volumes_are_a_claim_or_a_nodes_folder() -> None:
    volumes = {"checkpoints": {"persistentVolumeClaim": "kept"}, "dataVolume": {"hostPath": "/srv/mnist"}}
    made = jobs.job(run(**volumes), WORKSHOP)["spec"]["template"]["spec"]
    assert made["volumes"][1:] == [
        {"name": "checkpoints", "persistentVolumeClaim": {"claimName": "kept"}},
        {"name": "data", "hostPath": {"path": "/srv/mnist", "type": "DirectoryOrCreate"}},
    ]
    assert made["containers"][0]["volumeMounts"][1:] == [
        {"name": "checkpoints", "mountPath": "/checkpoints", "readOnly": False},
        {"name": "data", "mountPath": "/data", "readOnly": True},
    ]


def status(found: dict[str, Any], *workers: Worker, log: str = "") -> dict[str, Any]:
    return dict(jobs.status(run(), found, workers, log, NOW))


COMPLETE = {"succeeded": 2, "conditions": [{"type": "Complete", "status": "True"}]}
FAILED = {"failed": 7, "conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}


@pytest.mark.parametrize(
    ("found", "phase", "holds"),
    [
        ({}, "Pending", "Reconciling"),
        ({"active": 2}, "Pending", "Reconciling"),
        ({"active": 2, "ready": 2}, "Running", "Reconciling"),
        (COMPLETE, "Succeeded", "Ready"),
        (FAILED, "Failed", "Stalled"),
    ],
)
def test_the_phase_follows_the_job(found: dict[str, Any], phase: str, holds: str) -> None:
    told = status(found)
    assert told["phase"] == phase
    assert [one["type"] for one in told["conditions"] if one["status"] == "True"] == [holds]


def test_the_reason_of_a_failure_is_what_the_worker_said_that_failed_last() -> None:
    first = Worker(0, 1, "the other end closed the connection", "2026-11-25T10:00:02Z")
    last = Worker(1, 137, "OOMKilled", "2026-11-25T10:00:05Z")
    told = status(FAILED, last, first)
    assert told["message"] == "worker 1 ended with 137: OOMKilled"
    assert told["restarts"] == 7
    assert {one["reason"] for one in told["conditions"]} == {"BackoffLimitExceeded"}


def test_a_workers_json_is_shown_as_its_reason() -> None:
    said = '{"worker": 0, "event": "failed", "code": 65, "reason": "there is no MNIST in /data"}\n'
    assert status(FAILED, Worker(0, 65, said))["message"] == "worker 0 ended with 65: there is no MNIST in /data"
    assert status(FAILED, Worker(0, 1))["message"] == "worker 0 ended with 1: it said nothing"


def test_the_reason_is_that_of_the_worker_from_which_it_came_not_of_those_that_lost_it() -> None:
    cause = Worker(1, 137, "OOMKilled", "2026-11-25T10:00:02Z")
    follower = Worker(0, 75, '{"event": "failed", "code": 75, "reason": "another was lost"}', "2026-11-25T10:00:05Z")
    assert status(FAILED, cause, follower)["message"] == "worker 1 ended with 137: OOMKilled"
    assert status(FAILED, follower)["message"] == "worker 0 ended with 75: another was lost"


def test_a_run_that_was_restarted_still_says_why() -> None:
    told = status({"active": 2, "ready": 2, "failed": 1}, Worker(1, 143, "SIGTERM", NOW))
    assert (told["phase"], told["restarts"]) == ("Running", 1)
    assert told["message"] == "2 workers train; before, worker 1 ended with 143: SIGTERM"


def test_a_worker_that_cannot_start_is_a_reason_to_wait() -> None:
    told = status({"active": 2}, Worker(0), Worker(1, None, "ErrImageNeverPull: not present"))
    assert (told["phase"], told["message"]) == ("Pending", "worker 1: ErrImageNeverPull: not present")


def test_progress_is_the_newest_epoch_that_the_first_worker_logged() -> None:
    log = 'begins\n{"epoch": 1, "epochs": 12}\n{"epoch": 2, "epochs": 12, "loss": 0.1}\nsaved a checkpoint\n'
    assert status({"active": 2, "ready": 2}, log=log)["progress"] == "2/12"
    assert "progress" not in status({"active": 2})


def test_the_version_is_what_the_first_worker_registered() -> None:
    said = Worker(0, 0, '{"model": "digits", "version": 4}')
    assert status(COMPLETE, Worker(1, 0, ""), said)["version"] == 4
    assert "version" not in status(COMPLETE, Worker(0, 0, "not json"))


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"annotations": {jobs.INDEX: "1"}}, "status": status}


def state(**given: Any) -> dict[str, Any]:
    return pod(containerStatuses=[{"state": given}])


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (pod(), Worker(1)),
        (state(running={}), Worker(1)),
        (state(waiting={"reason": "ContainerCreating"}), Worker(1)),
        (state(waiting={"reason": "ImagePullBackOff", "message": "no such image"}),
         Worker(1, None, "ImagePullBackOff: no such image")),
        (state(terminated={"exitCode": 2, "reason": "Error", "message": "no data", "finishedAt": NOW}),
         Worker(1, 2, "no data", NOW)),
        (state(terminated={"exitCode": 137, "reason": "OOMKilled"}), Worker(1, 137, "OOMKilled")),
        (pod(conditions=[{"type": "PodScheduled", "reason": "Unschedulable", "message": "0/2 nodes are available"}]),
         Worker(1, None, "no node takes it: 0/2 nodes are available")),
    ],
)  # fmt: skip
def test_a_pod_is_read_as_a_worker(found: dict[str, Any], expected: Worker) -> None:
    assert worker(found) == expected


def test_services_of_the_release_are_no_settings_of_a_worker() -> None:
    assert jobs.job(run(), WORKSHOP)["spec"]["template"]["spec"]["enableServiceLinks"] is False
