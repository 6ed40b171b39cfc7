"""The AsyncAPI 3.0 document of everything that crosses the broker, from `protos.channels` and the `.proto` files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

from protos import topics
from protos.channels import CHANNELS, Channel, Encoded, Opaque, Role, Words
from protos.kit.link import KEEPALIVE_S
from protos.v1.manifest_pb2 import Signed

ROOT = Path(__file__).resolve().parent.parent
HEAD = "# Written by `make docs` from protos/channels.py and protos/v1: change those, not this file.\n"
PROTOBUF = "application/protobuf"
MQTT = "0.2.0"
"""The version of the MQTT bindings."""

ABOUT = """\
Littoral's cloud and its devices speak through an MQTT broker that neither trusts: manifests and deployments are signed,
files are named by their digests. MQTT 3.1.1 suffices. What is retained is said again after a connect,
unless the broker shows that it has kept it.

Payloads are Protocol Buffers, encoded as the .proto files named here say; each field's `x-protobuf` is its declaration,
which is all that decoding needs. The schemas show them as protobuf's own JSON, with the names of the .proto files: so
`littoral watch-mqtt --json` prints them. Readers ignore fields that they do not know; fields are only ever added.

An operation's tag is the role that may perform it. A role that an operation is not tagged with may not publish there.
"""
ROLES = {
    Role.CLOUD: "The cloud's publisher and controller.",
    Role.DEVICE: "A device's agent, on topics with its own name and on those of all devices.",
    Role.BROKER: "The broker on behalf of a device whose connection ended without a word: its last will.",
}
CLEARED = "An empty payload: the broker forgets the topic."
SCALARS: dict[int, dict[str, Any]] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    FieldDescriptor.TYPE_UINT64: {"type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
}
TYPE_NAMES = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
    for name in dir(FieldDescriptor)
    if name.startswith("TYPE_")
}


class _Dumper(yaml.SafeDumper):
    """Paragraphs as they are."""

    def represent_text(self, value: str) -> yaml.Node:
        return self.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _Dumper.represent_text)


def text() -> str:
    """The document as YAML."""
    return HEAD + yaml.dump(document(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def document() -> dict[str, Any]:
    """The document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Littoral over MQTT",
            "version": topics.ROOT.rpartition("/v")[2] + ".0.0",
            "description": ABOUT,
            "license": {"name": "Apache-2.0"},
            "tags": [{"name": role.value, "description": about} for role, about in ROLES.items()],
        },
        "defaultContentType": PROTOBUF,
        "servers": {"broker": _server()},
        "channels": {channel.name: _channel(channel) for channel in CHANNELS},
        "operations": dict(_operations()),
        "components": {
            "messages": {channel.name: _message(channel) for channel in CHANNELS} | {"cleared": _cleared()},
            "schemas": dict(_schemas()),
        },
    }


def _server() -> dict[str, Any]:
    return {
        "host": "{host}:{port}",
        "protocol": "mqtt",
        "protocolVersion": "3.1.1",
        "description": "Any broker with retained messages and QoS 1; `littoral serve` can bring its own.",
        "variables": {"host": {"default": "127.0.0.1"}, "port": {"default": "1883"}},
        "bindings": {"mqtt": {"cleanSession": True, "keepAlive": KEEPALIVE_S, "bindingVersion": MQTT}},
    }


def _channel(channel: Channel) -> dict[str, Any]:
    names = [channel.name, "cleared"] if channel.cleared else [channel.name]
    return {
        "address": channel.address,
        "summary": channel.summary,
        "servers": [_ref("servers", "broker")],
        "messages": {name: _ref("components", "messages", name) for name in names},
        "parameters": {name: _parameter(channel, name) for name in topics.matcher(channel.address).groupindex},
        "x-max-bytes": channel.max_bytes,
    }


def _parameter(channel: Channel, name: str) -> dict[str, Any]:
    known = topics.PARAMETERS[name]
    parameter = {"description": known.meaning, "x-pattern": f"^{known.pattern}$"}
    if isinstance(channel.payload, Encoded) and name in channel.payload.repeats:
        where = "the signed message" if channel.payload.purpose else "the message"
        parameter["description"] += f" The field `{name}` of {where} says the same."
    return parameter


def _operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for channel in CHANNELS:
        for action, roles in (("send", channel.senders), ("receive", channel.receivers)):
            for role in roles:
                yield f"{role.value}.{action}.{channel.name}", _operation(channel, action, role)


def _operation(channel: Channel, action: str, role: Role) -> dict[str, Any]:
    names = [channel.name, "cleared"] if channel.cleared and role is not Role.BROKER else [channel.name]
    operation: dict[str, Any] = {
        "action": action,
        "channel": _ref("channels", channel.name),
        "tags": [{"name": role.value}],
        "messages": [_ref("channels", channel.name, "messages", name) for name in names],
    }
    if action == "send":
        mqtt = {"qos": channel.qos, "retain": channel.retained, "bindingVersion": MQTT}
        operation["bindings"] = {"mqtt": mqtt}
    return operation


def _message(channel: Channel) -> dict[str, Any]:
    content_type, payload = _payload(channel)
    return {"name": channel.name, "summary": channel.summary, "contentType": content_type, "payload": payload}


def _payload(channel: Channel) -> tuple[str, dict[str, Any]]:
    """Content type and schema."""
    match channel.payload:
        case Words(words):
            return "text/plain", {"type": "string", "enum": [word.decode() for word in words]}
        case Opaque(content_type):
            return content_type, {"type": "string", "contentEncoding": "base64", "description": "The bytes themselves."}
        case Encoded(message, purpose):
            return PROTOBUF, _signed(message.DESCRIPTOR, purpose) if purpose else _schema_ref(message.DESCRIPTOR)


def _signed(inner: Descriptor, purpose: str) -> dict[str, Any]:
    """A Signed whose field `payload` is another message."""
    content = {
        "description": f"A serialized {inner.full_name}, signed for the purpose {purpose!r}.",
        "contentEncoding": "base64",
        "contentMediaType": PROTOBUF,
        "x-protobuf-payload": _schema_ref(inner),
    }
    return {"allOf": [_schema_ref(Signed.DESCRIPTOR)], "required": ["signatures"], "properties": {"payload": content}}


def _cleared() -> dict[str, Any]:
    return {
        "name": "cleared",
        "summary": CLEARED,
        "contentType": "application/octet-stream",
        "payload": {"type": "string", "maxLength": 0},
    }


def _schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every message of the files that the channels' messages are from."""
    files = dict.fromkeys(_with_imports(row.payload.message.DESCRIPTOR.file for row in CHANNELS if _is_encoded(row)))
    comments = _comments(file.name for file in files)
    for file in files:
        for message in file.message_types_by_name.values():
            yield message.name, _schema(message, comments)


def _is_encoded(channel: Channel) -> bool:
    return isinstance(channel.payload, Encoded)


def _with_imports(files: Iterable[FileDescriptor]) -> Iterator[FileDescriptor]:
    for file in files:
        yield from _with_imports(file.dependencies)
        yield file


def _schema(message: Descriptor, comments: dict[str, str]) -> dict[str, Any]:
    about = {"description": comments[message.full_name]} if message.full_name in comments else {}
    return {
        "type": "object",
        **about,
        "x-protobuf": {"message": message.full_name, "file": message.file.name},
        "properties": {field.name: _field(field, comments) for field in message.fields},
    }


def _field(field: FieldDescriptor, comments: dict[str, str]) -> dict[str, Any]:
    name = f"{field.containing_type.full_name}.{field.name}"
    about = {"description": comments[name]} if name in comments else {}
    return {**_type(field), **about, "x-protobuf": f"{_declared(field)} {field.name} = {field.number}"}


def _type(field: FieldDescriptor) -> dict[str, Any]:
    if _is_map(field):
        return {"type": "object", "additionalProperties": _one(field.message_type.fields_by_name["value"])}
    if field.is_repeated:
        return {"type": "array", "items": _one(field)}
    # A reference stands alone: what is beside it would not count.
    return {"allOf": [_one(field)]} if field.message_type else _one(field)


def _one(field: FieldDescriptor) -> dict[str, Any]:
    if field.message_type:
        return _schema_ref(field.message_type)
    if field.enum_type:
        return {"type": "string", "enum": [value.name for value in field.enum_type.values], **_numbers(field)}
    return dict(SCALARS[field.type])


def _numbers(field: FieldDescriptor) -> dict[str, Any]:
    return {"x-enum-numbers": [value.number for value in field.enum_type.values]}


def _declared(field: FieldDescriptor) -> str:
    """The field's type as the .proto file declares it."""
    if _is_map(field):
        key, value = (field.message_type.fields_by_name[part] for part in ("key", "value"))
        return f"map<{_declared(key)}, {_declared(value)}>"
    named = field.message_type or field.enum_type
    return f"{'repeated ' if field.is_repeated else ''}{named.name if named else TYPE_NAMES[field.type]}"


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _schema_ref(message: Descriptor) -> dict[str, Any]:
    return _ref("components", "schemas", message.name)


def _ref(*path: str) -> dict[str, Any]:
    return {"$ref": "#/" + "/".join(path)}


def _comments(files: Iterable[str]) -> dict[str, str]:
    """The comments of messages and fields in .proto files, by full name. Python's descriptors have none."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "set"
        flags = [f"-I{ROOT}", "--include_source_info", f"--descriptor_set_out={made}"]
        if protoc.main(["protoc", *flags, *(str(ROOT / name) for name in files)]) != 0:
            raise SystemExit("protoc failed")
        found = FileDescriptorSet.FromString(made.read_bytes())
    return {name: comment for file in found.file for name, comment in _comments_of(file) if comment}


def _comments_of(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    for place in file.source_code_info.location:
        comment = " ".join(f"{place.leading_comments} {place.trailing_comments}".split())
        match list(place.path):
            case [4, message]:
                yield f"{file.package}.{file.message_type[message].name}", comment
            case [4, message, 2, field]:
                kind = file.message_type[message]
                yield f"{file.package}.{kind.name}.{kind.field[field].name}", comment
