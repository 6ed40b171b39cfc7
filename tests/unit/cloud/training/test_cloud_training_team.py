"""Who trains together, by TF_CONFIG or by what an indexed Job tells its pods."""

from __future__ import annotations

import json

import pytest

from cloud.training.team import BadTeam, Team, team_of

PEERS = "run-{index}.run:2222"


def config(**changes: object) -> dict[str, str]:
    whole = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}} | changes
    return {"TF_CONFIG": json.dumps(whole)}


def test_of_a_jobs_index_and_the_pattern_of_names_each_worker_makes_the_same_tf_config_but_for_its_place() -> None:
    configs = [json.loads(team_of({"JOB_COMPLETION_INDEX": str(index)}, PEERS, 2).tf_config()) for index in range(2)]
    assert [one["task"] for one in configs] == [{"type": "worker", "index": 0}, {"type": "worker", "index": 1}]
    assert all(one["cluster"] == {"worker": ["run-0.run:2222", "run-1.run:2222"]} for one in configs)


def test_a_tf_config_that_is_given_holds_against_all_else() -> None:
    team = team_of(config() | {"JOB_COMPLETION_INDEX": "0"}, PEERS, 2)
    assert team == Team(("a:1", "b:2"), 1)
    assert team_of({"TF_CONFIG": team.tf_config()}) == team


def test_one_worker_alone_needs_no_address() -> None:
    assert len(team_of({})) == len(team_of({}, workers=1)) == 1
    assert team_of({}).is_chief


def test_the_first_worker_is_the_chief() -> None:
    assert [Team(("a:1", "b:2"), index).is_chief for index in range(2)] == [True, False]


@pytest.mark.parametrize(
    ("environment", "peers", "workers", "named"),
    [
        ({}, PEERS, 2, "JOB_COMPLETION_INDEX is ''"),
        ({"JOB_COMPLETION_INDEX": "2"}, PEERS, 2, "from 0 to 1"),
        ({"JOB_COMPLETION_INDEX": "-1"}, PEERS, 2, "'-1'"),
        ({"JOB_COMPLETION_INDEX": "0"}, "run:2222", 2, "need an address with {index}"),
        ({"JOB_COMPLETION_INDEX": "0"}, "run-{index}", 2, "write host:port"),
        (config(), "", 3, "--workers says 3, TF_CONFIG names 2"),
        ({"TF_CONFIG": "{"}, "", None, "TF_CONFIG is not of the form"),
        ({"TF_CONFIG": "[]"}, "", None, "TF_CONFIG is not of the form"),
        (config(task={"type": "worker", "index": 2}), "", None, "there are 0 to 1"),
        (config(task={"type": "worker", "index": True}), "", None, "worker True"),
        (config(task={"type": "ps", "index": 0}), "", None, "must be of the type 'worker'"),
        (config(cluster={"chief": ["c:3"], "worker": ["a:1"]}), "", None, "['chief', 'worker']"),
        (config(cluster={"worker": []}), "", None, "1 to 16 workers"),
        (config(cluster={"worker": ["a", "b:2"]}), "", None, "'a': write host:port"),
        (config(cluster={"worker": ["a:99999", "b:2"]}), "", None, "'a:99999'"),
    ],
)
def test_what_is_no_team_is_refused_with_the_reason(
    environment: dict[str, str], peers: str, workers: int | None, named: str
) -> None:
    with pytest.raises(BadTeam) as refused:
        team_of(environment, peers, workers)
    assert named in str(refused.value)
