"""What must be on the broker, and in which order. Pure: times in ms of any clock that only goes forward.

Three rules: a desired state is published only when everything it needs has been; a bundle is cleared only when no
device has needed it for a while; nothing that another connection published counts as published.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from google.protobuf.message import DecodeError

from cloud.delivery.entities import BadRequest, Bundle, Held
from cloud.fleet.entities import Desired
from protos.v1.delivery_pb2 import RepairRequest

LINGER_MS = 15_000
"""A bundle stays this long after the last device that needed it: until the next wave, most times."""

RETRY_MS = 30_000
REPEAT_MS = 1_000
MAX_REQUEST_BYTES = 4096
"""A bitmap of 16,384 chunks, the most an artifact can have, takes 2 KB."""


class Session:
    """What one connection has put on its broker, and what is left to do."""

    def __init__(self) -> None:
        self._held: dict[bytes, Held] = {}
        self._desired: dict[tuple[str, str], tuple[int, int]] = {}

    def missing(self, wanted: Iterable[Desired], now_ms: int) -> list[bytes]:
        """Manifests of the bundles that must be published before all of `wanted` can be."""
        manifests = dict.fromkeys(row.manifest for row in wanted if row.manifest)
        return [manifest for manifest in manifests if self._is_missing(manifest, now_ms)]

    def begun(self, bundle: Bundle, now_ms: int) -> list[bytes]:
        """The bundle's publication begins; returns the artifacts that no other bundle has brought already."""
        there = {artifact for held in self._held.values() if held.complete for artifact in held.bundle.artifacts}
        self._held[bundle.manifest] = Held(bundle, now_ms)
        return [artifact for artifact in bundle.artifacts if artifact not in there]

    def completed(self, manifest: bytes) -> None:
        """All of the bundle is on the broker."""
        self._held[manifest].complete = True

    def failed(self, manifest: bytes, now_ms: int) -> None:
        """The bundle cannot be published now, through no fault of the connection."""
        held = self._held.setdefault(manifest, Held(Bundle(manifest, {}), now_ms))
        held.retry_ms = now_ms + RETRY_MS

    def found(self, bundle: Bundle, now_ms: int) -> None:
        """The broker kept something of the bundle from an earlier connection: to be cleared, not relied on."""
        self._held.setdefault(bundle.manifest, Held(bundle, now_ms))

    def knows(self, manifest: bytes) -> bool:
        """Whether anything of the bundle is, or may be, on the broker."""
        return manifest in self._held

    def due(self, wanted: Iterable[Desired]) -> list[Desired]:
        """The desired states to publish now: news whose bundle is there."""
        return [row for row in wanted if self._is_news(row) and self._is_served(row)]

    def told(self, row: Desired) -> None:
        """The desired state is on the broker."""
        self._desired[row.device, row.slot] = (row.generation, row.issued_ms)

    def chunks(self, artifact: bytes) -> int:
        """How many chunks the artifact has, if all of it was published; 0 otherwise."""
        for held in self._held.values():
            if held.complete and artifact in held.bundle.artifacts:
                return held.bundle.artifacts[artifact]
        return 0

    def stale(self, needed: Collection[bytes], now_ms: int) -> list[bytes]:
        """Manifests of the bundles that no device needs any more. `needed`: those of all unanswered deployments."""
        for manifest in needed:
            if manifest in self._held:
                self._held[manifest].needed_ms = now_ms
        return [manifest for manifest, held in self._held.items() if held.needed_ms + LINGER_MS <= now_ms]

    def dropped(self, manifest: bytes) -> Mapping[bytes, int]:
        """The bundle counts as gone; returns what no other one has, to clear: artifacts with their number of chunks."""
        bundle = self._held.pop(manifest).bundle
        kept = {artifact for held in self._held.values() for artifact in held.bundle.artifacts}
        return {artifact: chunks for artifact, chunks in bundle.artifacts.items() if artifact not in kept}

    def _is_missing(self, manifest: bytes, now_ms: int) -> bool:
        held = self._held.get(manifest)
        return held is None or (not held.complete and held.retry_ms <= now_ms)

    def _is_news(self, row: Desired) -> bool:
        return self._desired.get((row.device, row.slot), (0, 0)) < (row.generation, row.issued_ms)

    def _is_served(self, row: Desired) -> bool:
        return not row.manifest or (row.manifest in self._held and self._held[row.manifest].complete)


class Repairs:
    """Requests of many devices for lost chunks, merged: each chunk is sent once, however many ask."""

    def __init__(self) -> None:
        self._asked: dict[bytes, int] = {}
        self._sent: dict[tuple[bytes, int], int] = {}

    def ask(self, artifact: bytes, missing: int) -> None:
        """A device lacks the chunks whose bits are set in `missing`."""
        self._asked[artifact] = self._asked.get(artifact, 0) | missing

    def take(self, now_ms: int) -> list[tuple[bytes, int]]:
        """Artifact and index of each chunk to send now. Those sent a moment ago are still on their way."""
        self._sent = {chunk: sent_ms for chunk, sent_ms in self._sent.items() if now_ms - sent_ms < REPEAT_MS}
        asked = [(artifact, index) for artifact, bits in self._asked.items() for index in indexes(bits)]
        due = [chunk for chunk in asked if chunk not in self._sent]
        self._asked.clear()
        self._sent |= dict.fromkeys(due, now_ms)
        return due


def indexes(bits: int) -> list[int]:
    """The places of the bits that are set, rising."""
    return [place for place in range(bits.bit_length()) if bits >> place & 1]


def read_request(artifact: bytes, payload: bytes, chunks: int) -> int:
    """The missing chunks as a bitmap, from a request for an artifact of `chunks` chunks. Raises BadRequest."""
    if len(payload) > MAX_REQUEST_BYTES:
        raise BadRequest(f"{len(payload)} bytes, allowed are {MAX_REQUEST_BYTES}")
    try:
        request = RepairRequest.FromString(payload)
    except DecodeError as error:
        raise BadRequest("not a RepairRequest") from error
    if request.artifact != artifact:
        raise BadRequest("it names another artifact than its topic")
    missing = int.from_bytes(request.missing, "little")
    if not missing or missing.bit_length() > chunks:
        raise BadRequest(f"its bitmap names none of the {chunks} chunks, or more than there are")
    return missing
