"""The contract stays readable in both directions: what was once sent is understood for ever."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests" / "contract" / "v1"
FIELDS: dict[str, dict[str, list[object]]] = json.loads((GOLDEN / "fields.json").read_text())


def _message_types() -> dict[str, type[Message]]:
    kinds: dict[str, type[Message]] = {}
    for path in (ROOT / "protos" / "v1").glob("*.proto"):
        module = importlib.import_module(f"protos.v1.{path.stem}_pb2")
        kinds |= {name: getattr(module, name) for name in module.DESCRIPTOR.message_types_by_name}
    return kinds


KINDS = _message_types()


def test_every_message_has_golden_bytes_and_a_field_table() -> None:
    recorded = {path.stem for path in GOLDEN.glob("*.json")} - {"fields"}
    assert set(KINDS) == recorded == set(FIELDS), "run: python scripts/contract.py"


@pytest.mark.parametrize("name", sorted(KINDS))
def test_golden_bytes_are_still_read_as_they_were_meant(name: str) -> None:
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    message = KINDS[name].FromString(bytes.fromhex(golden["bytes"]))
    assert MessageToDict(message) == golden["message"]


@pytest.mark.parametrize("name", sorted(KINDS))
def test_golden_messages_are_still_written_as_they_were(name: str) -> None:
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    message = KINDS[name].FromString(bytes.fromhex(golden["bytes"]))
    assert message.SerializeToString(deterministic=True).hex() == golden["bytes"]


@pytest.mark.parametrize("name", sorted(KINDS))
def test_no_field_ever_changes_its_number_type_or_repetition(name: str) -> None:
    now = {
        field.name: [field.number, field.type, field.is_repeated, field.message_type.name if field.message_type else ""]
        for field in KINDS[name].DESCRIPTOR.fields
    }
    assert {field: now.get(field) for field in FIELDS[name]} == FIELDS[name]


def test_a_reader_of_today_keeps_fields_it_does_not_know() -> None:
    from_the_future = KINDS["Ack"](watermark=7).SerializeToString() + bytes.fromhex("fa070568656c6c6f")
    assert KINDS["Ack"].FromString(from_the_future).SerializeToString() == from_the_future
