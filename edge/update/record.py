"""An Update as the JSON that survives a restart, and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import MISSING, asdict, fields
from typing import Any, TypeVar

from edge.update.entities import Proof, State, Target, Update

FORMAT = 1

Part = TypeVar("Part", Target, Proof)


class Unreadable(Exception):
    """What was remembered cannot be understood: written by a newer agent, or damaged."""


def encode(update: Update) -> bytes:
    """JSON with digests in hex, readable by people."""
    content = {"format": FORMAT, **asdict(update)}
    return json.dumps(content, default=bytes.hex, indent=1).encode()


def decode(data: bytes) -> Update:
    """The update that `encode` was given. Raises Unreadable."""
    try:
        content = json.loads(data)
        if content["format"] != FORMAT:
            raise Unreadable(f"format {content['format']!r} of the remembered update is not known here")
        return Update(
            state=State(content["state"]),
            target=_built(Target, content["target"]),
            reason=str(content["reason"]),
            proof=_built(Proof, content["proof"]),
            proven=_built(Proof, content["proven"]),
            takeovers=int(content["takeovers"]),
            attempts=int(content["attempts"]),
            receipt=bytes.fromhex(content["receipt"]),
            since_ms=int(content["since_ms"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"the remembered update is damaged: {error!r}") from error


def _built(kind: type[Part], content: dict[str, Any] | None) -> Part | None:
    if content is None:
        return None
    converters: dict[str, Callable[[Any], Any]] = {"bytes": bytes.fromhex, "int": int, "str": str, "float": float}
    # An earlier agent did not write what has a default.
    written = [field for field in fields(kind) if field.name in content or field.default is MISSING]
    return kind(**{field.name: converters[str(field.type)](content[field.name]) for field in written})
