"""What a batch's bytes are, by its kind: outside of any transaction, since those hold locks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from cloud.foundation.arriving import Taker
from cloud.uplink import rules
from cloud.uplink.entities import KnownVersion
from protos.kit.columns import Malformed, Results
from protos.kit.kinds import Kind

KnownVersions = Callable[[bytes], KnownVersion | None]
"""From a manifest's digest to the registered version it names; None: none."""

Takers = Mapping[Kind, Taker[Any]]
"""Who keeps the rows of the kinds besides results."""

Read: TypeAlias = Results | list[Any] | str
"""The columns of a batch of results, the rows of one of another kind, or why they cannot be stored."""


class Reader:
    """Reads batches of results, and has those of other kinds read by who keeps them."""

    def __init__(self, known_version: KnownVersions, takers: Takers) -> None:
        self._known_version = known_version
        self._takers = takers

    def read(self, kind: Kind, payload: bytes, count: int) -> Read:
        """The `count` rows of a batch, or why they cannot be stored."""
        try:
            if kind is not Kind.RESULTS:
                rules.check_size(payload)
                return self._takers[kind].read(payload, count)
            results = rules.read(payload, count)
        except Malformed as error:
            return str(error)
        return rules.complaint(results, self._known_version(results.manifest)) or results
