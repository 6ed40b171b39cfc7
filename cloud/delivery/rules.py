"""What must be on the broker, and in which order. Pure: times in ms of any clock that only goes forward.

Three rules: a desired state is published only when everything it needs has been; a bundle is cleared only when no
device has needed it for a while; what the broker acknowledged counts as there for as long as it shows, after each
connect, that it has kept the bundle's manifest. What it lost all the same, devices ask for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from google.protobuf.message import DecodeError

from cloud.delivery.entities import BadRequest, Bundle, Held
from cloud.fleet.entities import Desired
from protos.v1.delivery_pb2 import RepairRequest

LINGER_MS = 15_000
"""A bundle stays this long after the last device that needed it: until the next wave, most times."""

DOUBT_MS = 1_000
"""After a connect, a broker that has kept a manifest shows it within this time."""

RETRY_MS = 30_000
REPEAT_MS = 5_000
"""A chunk that was sent is not sent again within this time. Less than a device takes from one request to its next, in
between it seeks the chunk at the broker; more than from its last vain attempt there to its request, which may come just
after another device's was answered."""
LONGEST_REPEAT_MS = 80_000
MAX_REQUEST_BYTES = 4096
"""A bitmap of 16,384 chunks, the most an artifact can have, takes 2 KB."""


class Holdings:
    """What the broker has of what devices need, as far as it has told, and what is left to do."""

    def __init__(self) -> None:
        self._held: dict[bytes, Held] = {}
        self._there: dict[bytes, int] = {}
        self._desired: dict[tuple[str, str], tuple[int, int]] = {}

    def connected(self, now_ms: int) -> None:
        """Another connection begins, perhaps to a broker that has forgotten all. Desired states are told again."""
        self._desired.clear()
        for held in self._held.values():
            if held.confirmed or held.doubted_ms > now_ms:
                held.doubted_ms = now_ms + DOUBT_MS
            held.confirmed = False

    def seen(self, manifest: bytes, signed: bytes) -> bool:
        """The broker shows a manifest; returns whether this is news: the bundle is still there."""
        held = self._held.get(manifest)
        if held is None or held.confirmed or held.bundle.signed != signed:
            return False
        held.confirmed = True
        return True

    def missing(self, wanted: Iterable[Desired], now_ms: int) -> list[bytes]:
        """Manifests of the bundles that must be published before all of `wanted` can be."""
        manifests = dict.fromkeys(row.manifest for row in wanted if row.manifest)
        return [manifest for manifest in manifests if self._is_missing(manifest, now_ms)]

    def begun(self, bundle: Bundle, now_ms: int) -> list[tuple[bytes, int]]:
        """The bundle's publication begins, or goes on; returns what is not there: artifact and index of each chunk."""
        held = self._held.setdefault(bundle.manifest, Held(bundle, now_ms))
        held.bundle = bundle
        if not held.confirmed:
            self._forget(bundle)
        return [
            (artifact, index)
            for artifact, count in bundle.artifacts.items()
            for index in indexes(_all(count) & ~self._there.get(artifact, 0))
        ]

    def confirmed(self, manifest: bytes) -> bool:
        """Whether the broker has the manifest."""
        return manifest in self._held and self._held[manifest].confirmed

    def has_manifest(self, manifest: bytes) -> None:
        """The broker acknowledged the manifest."""
        if manifest in self._held:
            self._held[manifest].confirmed = True

    def has_chunk(self, artifact: bytes, index: int) -> None:
        """The broker acknowledged the chunk."""
        if self.wants(artifact):
            self._there[artifact] = self._there.get(artifact, 0) | 1 << index

    def failed(self, manifest: bytes, now_ms: int) -> None:
        """The bundle cannot be published now, through no fault of the connection."""
        held = self._held.setdefault(manifest, Held(Bundle(manifest, b"", {}), now_ms))
        held.retry_ms = now_ms + RETRY_MS

    def found(self, bundle: Bundle, now_ms: int) -> None:
        """The broker kept something of the bundle from an earlier run: to be cleared, not relied on."""
        self._held.setdefault(bundle.manifest, Held(bundle, now_ms))

    def knows(self, manifest: bytes) -> bool:
        """Whether anything of the bundle is, or may be, on the broker."""
        return manifest in self._held

    def wants(self, artifact: bytes) -> bool:
        """Whether the artifact belongs to a bundle that is not cleared."""
        return any(artifact in held.bundle.artifacts for held in self._held.values())

    def due(self, wanted: Iterable[Desired]) -> list[Desired]:
        """The desired states to publish now: news whose bundle is there."""
        served = {manifest for manifest, held in self._held.items() if self._is_whole(held)}
        return [row for row in wanted if self._is_news(row) and (not row.manifest or row.manifest in served)]

    def told(self, row: Desired) -> None:
        """The desired state is on the broker."""
        self._desired[row.device, row.slot] = (row.generation, row.issued_ms)

    def chunks(self, artifact: bytes) -> int:
        """How many chunks the artifact has, if all of it was published; 0 otherwise."""
        for held in self._held.values():
            if artifact in held.bundle.artifacts and self._is_whole(held):
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
        gone = {artifact: chunks for artifact, chunks in bundle.artifacts.items() if not self.wants(artifact)}
        for artifact in gone:
            self._there.pop(artifact, None)
        return gone

    def _forget(self, bundle: Bundle) -> None:
        """The broker has lost the bundle, and with it the chunks that no confirmed one has."""
        kept = {artifact for held in self._held.values() if held.confirmed for artifact in held.bundle.artifacts}
        for artifact in bundle.artifacts.keys() - kept:
            self._there.pop(artifact, None)

    def _is_missing(self, manifest: bytes, now_ms: int) -> bool:
        held = self._held.get(manifest)
        if held is None:
            return True
        is_decided = held.confirmed or held.doubted_ms <= now_ms
        return is_decided and held.retry_ms <= now_ms and not self._is_whole(held)

    def _is_whole(self, held: Held) -> bool:
        parts = held.bundle.artifacts.items()
        return held.confirmed and all(self._there.get(artifact, 0) == _all(count) for artifact, count in parts)

    def _is_news(self, row: Desired) -> bool:
        return self._desired.get((row.device, row.slot), (0, 0)) < (row.generation, row.issued_ms)


class Repairs:
    """Requests of many devices for lost chunks, merged: each chunk is sent once, however many ask.

    A chunk that was sent is retained again: whoever missed it fetches it from the broker. So each further time it is
    sent only after twice as long, and the cost does not grow with the number of devices that ask.
    """

    def __init__(self) -> None:
        self._asked: dict[bytes, int] = {}
        self._sent: dict[tuple[bytes, int], tuple[int, int]] = {}

    def ask(self, artifact: bytes, missing: int) -> None:
        """A device lacks the chunks whose bits are set in `missing`."""
        self._asked[artifact] = self._asked.get(artifact, 0) | missing

    def take(self, now_ms: int) -> list[tuple[bytes, int]]:
        """Artifact and index of each chunk to send now."""
        self._sent = {chunk: sent for chunk, sent in self._sent.items() if now_ms - sent[0] < 2 * LONGEST_REPEAT_MS}
        asked = [(artifact, index) for artifact, bits in self._asked.items() for index in indexes(bits)]
        due = [chunk for chunk in asked if self._is_due(chunk, now_ms)]
        self._asked.clear()
        for chunk in due:
            self._sent[chunk] = (now_ms, self._sent.get(chunk, (0, 0))[1] + 1)
        return due

    def _is_due(self, chunk: tuple[bytes, int], now_ms: int) -> bool:
        sent_ms, times = self._sent.get(chunk, (0, 0))
        return not times or now_ms - sent_ms >= _pause_ms(times)


def _pause_ms(times: int) -> int:
    """How long a chunk is not sent again after it was sent so many times."""
    return int(min(LONGEST_REPEAT_MS, REPEAT_MS << times - 1))


def _all(count: int) -> int:
    """The bitmap of `count` chunks that are all there."""
    return (1 << count) - 1


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
