"""Values: each is explained, each is checked, and nonsense is refused with its place and the reason."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from cloud.foundation.settings import CloudSettings
from edge.foundation.settings import EdgeSettings
from tests.charts import HELM, ROOT, helm, render

CHARTS = ("littoral", "littoral-edge")

NONSENSE = [
    ("littoral", {"api": {"replicas": "two"}}, "/api/replicas", "got string, want integer"),
    ("littoral", {"api": {"replicas": 0}}, "/api/replicas", "minimum: got 0, want 1"),
    ("littoral", {"api": {"replicaz": 2}}, "/api", "additional properties 'replicaz' not allowed"),
    ("littoral", {"postgres": {}}, "at ''", "additional properties 'postgres' not allowed"),
    ("littoral", {"settings": {"result_day": 3}}, "/settings", "additional properties 'result_day' not allowed"),
    ("littoral", {"settings": {"database": "sqlite://"}}, "/settings", "additional properties 'database' not allowed"),
    ("littoral", {"image": {"tag": 1.2}}, "/image/tag", "got number, want string"),
    ("littoral", {"registry": "registry.example"}, "/registry", "does not match pattern"),
    ("littoral", {"signingKeys": {"existingSecret": ""}}, "/signingKeys/existingSecret", "does not match pattern"),
    ("littoral", {"ingest": {"service": {"port": 70000}}}, "/ingest/service/port", "maximum: got 70,000, want 65,535"),
    ("littoral", {"ingest": {"service": {"type": "External"}}}, "/ingest/service/type", "must be one of"),
    ("littoral", {"postgresql": {"image": "postgres"}}, "/postgresql/image", "does not match pattern"),
    ("littoral", {"postgresql": {"runAsUser": 0}}, "/postgresql/runAsUser", "minimum: got 0, want 1"),
    ("littoral", {"postgresql": {"persistence": {"size": "big"}}}, "/persistence/size", "does not match pattern"),
    ("littoral", {"mosquitto": {"enabled": "no"}}, "/mosquitto/enabled", "got string, want boolean"),
    ("littoral", {"hostAliases": [{"ip": "10.0.0.1"}]}, "/hostAliases/0", "missing property 'hostnames'"),
    ("littoral-edge", {"data": {"hostPath": "data"}}, "/data/hostPath", "does not match pattern"),
    ("littoral-edge", {"devices": ["video0"]}, "/devices/0", "does not match pattern"),
    ("littoral-edge", {"uplink": "http://ingest"}, "/uplink", "does not match pattern"),
    ("littoral-edge", {"labels": {"line": 2}}, "/labels/line", "got number, want string"),
    ("littoral-edge", {"settings": {"id": "edge-1"}}, "/settings", "additional properties 'id' not allowed"),
    ("littoral-edge", {"updateStrategy": {"maxUnavailable": 0}}, "/updateStrategy/maxUnavailable", "want 1"),
    ("littoral-edge", {"readiness": "yes"}, "/readiness", "must be one of 'agent', 'model'"),
    ("littoral-edge", {"terminationGracePeriodSeconds": 2}, "/terminationGracePeriodSeconds", "want 6"),
]


@pytest.mark.parametrize(("chart", "values", "place", "reason"), NONSENSE, ids=[repr(row[1]) for row in NONSENSE])
def test_nonsense_is_refused_with_its_place_and_the_reason(
    chart: str, values: dict[str, Any], place: str, reason: str
) -> None:
    done = helm("template", "littoral", str(HELM / chart), values=values)
    assert done.returncode != 0
    assert place in done.stderr
    assert reason in done.stderr


@pytest.mark.parametrize("chart", CHARTS)
def test_every_value_is_explained(chart: str) -> None:
    kit = runpy.run_path(str(ROOT / "scripts" / "charts.py"))
    unexplained = [value.path for value in kit["values"](chart) if not value.meaning]
    assert not unexplained


@pytest.mark.parametrize("chart", CHARTS)
def test_the_schema_knows_the_values_that_there_are_and_no_others(chart: str) -> None:
    values = yaml.safe_load((HELM / chart / "values.yaml").read_text())
    schema = json.loads((HELM / chart / "values.schema.json").read_text())
    assert set(_paths(values, schema)) | {("global",)} == set(_checked(schema, schema))


@pytest.mark.parametrize("chart", CHARTS)
def test_every_value_changes_something(chart: str) -> None:
    text = "".join(path.read_text() for path in (HELM / chart / "templates").rglob("*") if path.is_file())
    values = yaml.safe_load((HELM / chart / "values.yaml").read_text())
    names = {path[-1] for path in _leaves(values)}
    assert not {name for name in names if not re.search(rf"\b{name}\b", text)}


@pytest.mark.parametrize(("chart", "kind"), [("littoral", CloudSettings), ("littoral-edge", EdgeSettings)])
def test_any_setting_may_be_given_but_those_that_the_chart_gives_itself(chart: str, kind: type[CloudSettings]) -> None:
    schema = json.loads((HELM / chart / "values.schema.json").read_text())
    allowed = schema["properties"]["settings"]["properties"].keys()
    prefix = str(kind.model_config["env_prefix"])
    given = set(re.findall(rf"name: {prefix}(\w+)", _all_rendered(chart)))
    ours = {name.lower() for name in given}
    local = {"broker_kind", "broker_port", "api_port", "ingest_port", "offline_keys", "cluster_namespace"}
    assert allowed == set(kind.model_fields) - ours - (local if kind is CloudSettings else {"labels"})


def _all_rendered(chart: str) -> str:
    values = {"api": {"tokenSecret": "token"}} if chart == "littoral" else {}
    return yaml.safe_dump_all(render(chart, values), sort_keys=False)


def _leaves(tree: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key)


def _resolved(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").removeprefix("#/$defs/")
    found: dict[str, Any] = root["$defs"][name] if name else schema
    return found


def _is_group(schema: dict[str, Any]) -> bool:
    """An object whose members are values of the chart, not of something that it describes."""
    return schema.get("additionalProperties") is False and "description" not in schema


def _paths(
    values: dict[str, Any], root: dict[str, Any], above: tuple[str, ...] = (), schema: dict[str, Any] | None = None
) -> Iterator[tuple[str, ...]]:
    properties = (schema or root)["properties"]
    for key, value in values.items():
        below = _resolved(properties[key], root)
        if _is_group(below):
            yield from _paths(value, root, (*above, key), below)
        else:
            yield (*above, key)


def _checked(schema: dict[str, Any], root: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in schema["properties"].items():
        below = _resolved(value, root)
        if _is_group(below):
            yield from _checked(below, root, (*above, key))
        else:
            yield (*above, key)
