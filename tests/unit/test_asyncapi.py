"""docs/asyncapi.yaml: valid AsyncAPI, and enough to speak with Littoral without its code."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from grpc_tools import protoc

from scripts import contract

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
OFFICIAL = ROOT / ".venv" / "schemas" / "node_modules" / "@asyncapi" / "specs" / "schemas" / "3.0.0.json"


@cache
def official() -> jsonschema.Draft7Validator:
    if not OFFICIAL.exists():
        pytest.skip("AsyncAPI's schema is missing: make setup fetches it where npm is installed")
    return jsonschema.Draft7Validator(json.loads(OFFICIAL.read_text()))


def test_the_document_is_valid_by_the_official_schema_of_asyncapi_3() -> None:
    assert [error.message for error in official().iter_errors(DOCUMENT)] == []


def spoilt(*path: str, value: object) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return document


@pytest.mark.parametrize(
    "document",
    [
        spoilt("asyncapi", value="2.6.0"),
        spoilt("servers", "broker", "protocol", value=None),
        spoilt("channels", "chunk", "maxBytes", value=1),
        spoilt("operations", "cloud.send.chunk", "action", value="publish"),
        spoilt("operations", "cloud.send.chunk", "bindings", "mqtt", "qos", value=3),
        spoilt("operations", "cloud.send.chunk", "bindings", "mqtt", "retain", value="yes"),
        spoilt("components", "schemas", "Report", "type", value="record"),
    ],
    ids=["version", "protocol", "no such field", "action", "qos", "retain", "type"],
)
def test_a_document_with_a_mistake_is_not_valid_by_it(document: dict[str, Any]) -> None:
    assert not official().is_valid(document)


def references(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def test_every_reference_leads_somewhere() -> None:
    assert len({*references(DOCUMENT)}) > 20
    for reference in references(DOCUMENT):
        place: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_it_says_who_may_publish_what_and_how() -> None:
    told = {
        (name.split(".")[0], operation["channel"]["$ref"].rpartition("/")[2]): operation["bindings"]["mqtt"]
        for name, operation in DOCUMENT["operations"].items()
        if operation["action"] == "send"
    }
    kept = {"qos": 1, "retain": True, "bindingVersion": "0.2.0"}
    assert told == {
        ("cloud", "metadata"): kept,
        ("cloud", "metadata_index"): kept,
        ("cloud", "manifest"): kept,
        ("cloud", "chunk"): kept,
        ("device", "repair"): {**kept, "retain": False},
        ("cloud", "desired"): kept,
        ("device", "reported"): kept,
        ("device", "presence"): kept,
        ("broker", "presence"): kept,
    }


# A reader without our code: classes from nothing but the declarations in the document.


def declarations() -> str:
    lines = ['syntax = "proto3";', "package littoral.v1;"]
    for name, schema in SCHEMAS.items():
        lines += [f"message {name} {{", *(f"  {field['x-protobuf']};" for field in schema["properties"].values()), "}"]
    enums = {
        field["x-protobuf"].split()[0]: dict(zip(field["enum"], field["x-enum-numbers"], strict=True))
        for schema in SCHEMAS.values()
        for field in schema["properties"].values()
        if "enum" in field
    }
    for name, values in enums.items():
        lines += [f"enum {name} {{", *(f"  {value} = {number};" for value, number in values.items()), "}"]
    return "\n".join(lines)


@cache
def strangers_classes() -> dict[str, type[Message]]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "stranger.proto").write_text(declarations())
        made = Path(folder) / "set"
        assert protoc.main(["protoc", f"-I{folder}", f"--descriptor_set_out={made}", "stranger.proto"]) == 0
        files = FileDescriptorSet.FromString(made.read_bytes()).file
    pool = descriptor_pool.DescriptorPool()
    pool.Add(files[0])
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"littoral.v1.{name}")) for name in SCHEMAS
    }


def full(name: str) -> Message:
    """A message of ours with a value in every field."""
    return next(contract.sample(kind) for kind in contract.messages() if kind.DESCRIPTOR.name == name)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_stranger_decodes_what_we_encode_by_the_document_alone(name: str) -> None:
    message = full(name)
    read = strangers_classes()[name].FromString(message.SerializeToString())
    assert MessageToDict(read) == MessageToDict(message)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_message_with_every_field_is_what_its_schema_says(name: str) -> None:
    shown = MessageToDict(full(name), preserving_proto_field_name=True)
    assert shown.keys() == SCHEMAS[name]["properties"].keys()
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    jsonschema.Draft7Validator(schema).validate(shown)
