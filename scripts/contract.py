"""Record golden bytes and the field table for messages of `protos/v1` that have none yet.

What is recorded is never rewritten: it is what devices in the field send. Run it after adding a message or a field.

    python scripts/contract.py
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "contract" / "v1"
FIELDS = GOLDEN / "fields.json"


def messages() -> Iterator[type[Message]]:
    """Every message class of the contract, by file and then by place in it."""
    for path in sorted((ROOT / "protos" / "v1").glob("*.proto")):
        module = importlib.import_module(f"protos.v1.{path.stem}_pb2")
        for name in module.DESCRIPTOR.message_types_by_name:
            yield getattr(module, name)


def field_table(descriptor: Descriptor) -> dict[str, list[object]]:
    """Field number, type and repetition by field name: what may never change."""
    return {
        field.name: [field.number, field.type, field.is_repeated, field.message_type.name if field.message_type else ""]
        for field in descriptor.fields
    }


def sample(kind: type[Message], depth: int = 0) -> Message:
    """A message with a recognisable value in every field."""
    message = kind()
    for field in kind.DESCRIPTOR.fields:
        _fill(message, field, depth)
    return message


def _fill(message: Message, field: FieldDescriptor, depth: int) -> None:
    target = getattr(message, field.name)
    if field.message_type and field.message_type.GetOptions().map_entry:
        target["key"] = "value"
    elif field.message_type:
        if field.containing_oneof and message.WhichOneof(field.containing_oneof.name):
            return
        child = target.add() if field.is_repeated else target
        child.CopyFrom(sample(type(child), depth + 1))
    elif field.is_repeated:
        target.extend([_value(field), _value(field)])
    else:
        setattr(message, field.name, _value(field))


def _value(field: FieldDescriptor) -> object:
    by_type: dict[int, object] = {
        FieldDescriptor.TYPE_STRING: f"{field.name}-é",
        FieldDescriptor.TYPE_BYTES: bytes([field.number, 0, 255]),
        FieldDescriptor.TYPE_UINT32: 70_000 + field.number,
        FieldDescriptor.TYPE_INT32: -70_000 - field.number,
        FieldDescriptor.TYPE_INT64: -(2**40) - field.number,
        FieldDescriptor.TYPE_UINT64: 2**40 + field.number,
        FieldDescriptor.TYPE_FLOAT: 0.5 * field.number,
        FieldDescriptor.TYPE_DOUBLE: 0.25 * field.number,
        FieldDescriptor.TYPE_ENUM: 1,
        FieldDescriptor.TYPE_BOOL: True,
    }
    return by_type[field.type]


def main() -> None:
    """Add what is missing."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    known = json.loads(FIELDS.read_text()) if FIELDS.exists() else {}
    for kind in messages():
        name = kind.DESCRIPTOR.name
        known[name] = field_table(kind.DESCRIPTOR) | known.get(name, {})
        path = GOLDEN / f"{name}.json"
        if not path.exists():
            message = sample(kind)
            golden = {"bytes": message.SerializeToString(deterministic=True).hex(), "message": MessageToDict(message)}
            path.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")
    FIELDS.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
