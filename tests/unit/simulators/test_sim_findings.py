from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from simulators.demo.findings import Findings, Versions, collect

DEVICES = ["edge-1", "edge-2"]
VERSIONS = Versions(first=1, good=2, bad=3)


def rollout(version: int, state: str) -> dict[str, Any]:
    waves = [{"size": 1, "succeeded": 1, "failed": 0, "pending": 0}] * 2
    members = [{"device": "edge-2", "wave": 0}, {"device": "edge-1", "wave": 1}]
    return {
        "id": f"r{version}",
        "version": version,
        "state": state,
        "reason": "",
        "created_ms": version,
        "waves": waves,
        "members": members,
    }


def answers() -> dict[str, Any]:
    model = {"digest": "ab", "bytes": 9, "accuracy_float": 0.9, "accuracy_int8": 0.9, "manifest": "cd"}
    rollouts = [rollout(3, "failed"), rollout(2, "succeeded"), rollout(1, "succeeded")]
    return {
        "/api/v1/models": [{**model, "version": 2}, {**model, "version": 1}],
        "/api/v1/devices": [{"id": name, "version": 2, "generation": 3, "online": True} for name in reversed(DEVICES)],
        "/api/v1/rollouts": [{"id": entry["id"]} for entry in rollouts],
        **{f"/api/v1/rollouts/{entry['id']}": entry for entry in rollouts},
        "/api/v1/receipts?outcome=refused": [
            {"device": "edge-2", "version": 3, "reason": "golden vectors", "generation": 3}
        ],
        "/api/v1/summary": {
            "sent": 10,
            "stored": 10,
            "lost": 0,
            "duplicated": 0,
            "quarantined": 0,
            "accuracy": {"1": 0.9},
            "results_per_version": {"1": 10},
        },
    }


GOOD = collect(answers().__getitem__)


def test_a_run_in_which_all_is_as_it_must_be_has_no_complaints() -> None:
    assert GOOD.complaints(DEVICES, VERSIONS) == []


def test_the_json_object_has_what_is_promised_and_nothing_else() -> None:
    assert GOOD.as_json() == {
        "models": [
            {"version": version, "digest": "ab", "bytes": 9, "accuracy_float": 0.9, "accuracy_int8": 0.9}
            for version in (1, 2)
        ],
        "devices": [{"id": name, "version": 2, "generation": 3} for name in DEVICES],
        "rollouts": [
            {
                "version": version,
                "state": state,
                "reason": "",
                "waves": [{"size": 1, "succeeded": 1, "failed": 0}] * 2,
            }
            for version, state in ((1, "succeeded"), (2, "succeeded"), (3, "failed"))
        ],
        "refusals": [{"device": "edge-2", "version": 3, "reason": "golden vectors"}],
        "results": {"sent": 10, "stored": 10, "lost": 0, "duplicated": 0, "accuracy": {"1": 0.9}},
    }


def with_summary(**changes: int) -> Findings:
    return replace(GOOD, summary={**GOOD.summary, **changes})


@pytest.mark.parametrize(
    ("findings", "complaint"),
    [
        (replace(GOOD, devices=GOOD.devices[:1]), "edge-2 runs version None, not 2"),
        (replace(GOOD, devices=[{"id": "edge-1", "version": 3}, *GOOD.devices[1:]]), "edge-1 runs version 3, not 2"),
        (replace(GOOD, rollouts=GOOD.rollouts[1:]), "the rollout of version 1 is missing, not succeeded"),
        (
            replace(GOOD, rollouts=[*GOOD.rollouts[:2], rollout(3, "succeeded")]),
            "the rollout of version 3 is succeeded, not failed",
        ),
        (
            replace(GOOD, refusals=[]),
            "refused was nothing; it should be version 3 by its canary edge-2 alone",
        ),
        (
            replace(GOOD, refusals=[*GOOD.refusals, {"device": "edge-1", "version": 3, "reason": ""}]),
            "refused was version 3 by edge-2, version 3 by edge-1; it should be version 3 by its canary edge-2 alone",
        ),
        (with_summary(lost=1), "1 results lost"),
        (with_summary(duplicated=2), "2 results duplicated"),
        (with_summary(quarantined=3), "3 results quarantined"),
        (with_summary(stored=11), "11 results stored of 10 frames sent"),
        (with_summary(stored=0, sent=0), "0 results stored of 0 frames sent"),
    ],
)
def test_each_thing_that_is_not_as_it_must_be_is_said(findings: Findings, complaint: str) -> None:
    assert findings.complaints(DEVICES, VERSIONS) == [complaint]
