"""The CRDs say what the API and the code say."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from annotated_types import Ge, Le, MaxLen
from pydantic.fields import FieldInfo

from cloud.cluster import rules
from cloud.cluster.entities import GROUP, GROUPS, ROLLOUTS, RUNS, VERSION, Phase
from cloud.fleet.rules import MAX_LABEL_CHARACTERS
from cloud.rollouts.routes import MAX_SELECTOR, GatesBody, RolloutBody
from cloud.rollouts.waves import MAX_WAVES
from cloud.training.commands import LARGEST_SEED
from protos.topics import NAME
from tests.charts import HELM, render

FOLDER = HELM / "littoral" / "files" / "crds"


def crd(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / f"{kind}.yaml").read_text())
    return found


def schema(kind: str) -> dict[str, Any]:
    (version,) = crd(kind)["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]
    return found


SPEC = schema(ROLLOUTS)["spec"]["properties"]
GATES = {
    "max_failed_share": "maxFailedShare",
    "min_succeeded_share": "minSucceededShare",
    "soak_s": "soakSeconds",
    "lease_s": "leaseSeconds",
    "timeout_s": "timeoutSeconds",
}
OURS_ALONE = {"deviceGroup", "paused", "attempt", "deletionPolicy"}


def bound(field: FieldInfo, kind: type) -> Any:
    names = {Ge: "ge", Le: "le", MaxLen: "max_length"}
    return next((getattr(one, names[kind]) for one in field.metadata if isinstance(one, kind)), None)


def test_a_rollout_has_the_fields_of_the_apis() -> None:
    assert set(SPEC) - OURS_ALONE == set(RolloutBody.model_fields)
    assert set(SPEC["gates"]["properties"]) == set(GATES.values())
    assert set(GATES) == set(GatesBody.model_fields)


@pytest.mark.parametrize(("name", "field"), GatesBody.model_fields.items())
def test_a_gate_has_the_bounds_and_the_default_of_the_apis(name: str, field: FieldInfo) -> None:
    gate = SPEC["gates"]["properties"][GATES[name]]
    assert (gate["minimum"], gate["maximum"]) == (bound(field, Ge), bound(field, Le))
    assert gate["default"] == field.default


def test_the_other_fields_have_the_apis_bounds_and_defaults() -> None:
    fields = RolloutBody.model_fields
    assert SPEC["slot"]["default"] == fields["slot"].default
    assert SPEC["waves"]["default"] == fields["waves"].get_default(call_default_factory=True)
    assert SPEC["waves"]["maxItems"] == bound(fields["waves"], MaxLen) == MAX_WAVES
    assert SPEC["selector"]["maxProperties"] == bound(fields["selector"], MaxLen) == MAX_SELECTOR
    assert SPEC["selector"]["additionalProperties"]["maxLength"] == MAX_LABEL_CHARACTERS
    assert SPEC["slot"]["pattern"].replace("(", "(?:") == f"^{NAME.pattern}$"


def test_a_training_runs_seed_is_bounded_as_the_commands() -> None:
    assert schema(RUNS)["spec"]["properties"]["seed"]["maximum"] == LARGEST_SEED


def test_the_status_has_a_place_for_all_that_is_written() -> None:
    status = schema(ROLLOUTS)["status"]["properties"]
    assert set(rules.COUNTED) | {"total"} == set(status["devices"]["properties"])
    for kind in (ROLLOUTS, RUNS):
        assert set(schema(kind)["status"]["properties"]["phase"]["enum"]) <= {phase.value for phase in Phase}


@pytest.mark.parametrize("kind", [ROLLOUTS, GROUPS, RUNS])
def test_a_kind_is_named_as_the_code_names_it(kind: str) -> None:
    found = crd(kind)
    assert found["metadata"]["name"] == f"{kind}.{GROUP}"
    assert (found["spec"]["group"], found["spec"]["versions"][0]["name"]) == (GROUP, VERSION)
    assert found["spec"]["versions"][0]["subresources"] == {"status": {}}


def test_the_chart_brings_them_and_leaves_them() -> None:
    found = [one for one in render("littoral", {}) if one["kind"] == "CustomResourceDefinition"]
    assert {one["metadata"]["name"] for one in found} == {f"{kind}.{GROUP}" for kind in (ROLLOUTS, GROUPS, RUNS)}
    for made in found:
        assert made["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        assert made["spec"] == crd(made["metadata"]["name"].partition(".")[0])["spec"]


def test_the_chart_leaves_them_out_where_another_brings_them() -> None:
    assert not [one for one in render("littoral", {"crds": {"install": False}}) if "Custom" in one["kind"]]
