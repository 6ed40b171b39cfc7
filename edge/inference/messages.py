"""What agent and worker say to each other on their socket: messages of fixed size. Frames and results lie in slots."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from edge.inference.entities import Blueprint
from edge.inference.slots import Layout
from protos.v1.manifest_pb2 import Preprocessing, Variant

REQUEST = struct.Struct("<II")
"""slot, frames in it."""

REPLY = struct.Struct("<IIIQQQ")
"""kind, slot, length of what lies in it as the result, and three numbers that the kind gives a meaning."""


class Kind(IntEnum):
    """What a reply is.

    READY: the model is loaded; numbers: nanoseconds for each invocation, nanoseconds for each frame, the best batch.
    UNFIT: it cannot be, the result is the reason. RESULTS, FAILED: a micro-batch's encoded results, or its problem;
    numbers: when it was begun and ended, and the processor time of the interpreter, in nanoseconds.
    """

    READY = 0
    UNFIT = 1
    RESULTS = 2
    FAILED = 3


@dataclass(frozen=True, slots=True)
class Message:
    """A reply."""

    kind: Kind
    slot: int
    length: int
    numbers: tuple[int, int, int]

    def packed(self) -> bytes:
        """Its bytes."""
        return REPLY.pack(self.kind, self.slot, self.length, *self.numbers)

    @classmethod
    def unpacked(cls, fields: tuple[int, ...]) -> Message:
        """From the fields of REPLY. Raises ValueError for a kind that is none."""
        kind, slot, length, first, second, third = fields
        return cls(Kind(kind), slot, length, (first, second, third))


def order(blueprint: Blueprint, layout: Layout) -> str:
    """What a worker is started with, as text for its command line. Chunks are left out: they may be many."""
    variant = Variant()
    variant.CopyFrom(blueprint.variant)
    variant.ClearField("artifact")
    return json.dumps(
        {
            "file": str(blueprint.file),
            "variant": variant.SerializeToString().hex(),
            "preprocessing": blueprint.preprocessing.SerializeToString().hex(),
            "threads": blueprint.threads,
            "manifest": blueprint.manifest.hex(),
            "model": blueprint.model,
            "version": blueprint.version,
            "background": blueprint.background,
            "nice": blueprint.nice,
            "slot": blueprint.slot,
            "layout": [layout.slots, layout.frames, layout.frame_bytes],
        }
    )


def parse_order(text: str) -> tuple[Blueprint, Layout]:
    """The same, read again."""
    fields = json.loads(text)
    blueprint = Blueprint(
        file=Path(fields["file"]),
        variant=Variant.FromString(bytes.fromhex(fields["variant"])),
        preprocessing=Preprocessing.FromString(bytes.fromhex(fields["preprocessing"])),
        threads=fields["threads"],
        manifest=bytes.fromhex(fields["manifest"]),
        model=fields["model"],
        version=fields["version"],
        background=fields["background"],
        nice=fields["nice"],
        slot=fields["slot"],
    )
    return blueprint, Layout(*fields["layout"])
