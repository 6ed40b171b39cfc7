"""Reassembly: which chunks are here, which to ask for next and how fast, what to do when one does not come. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from edge.delivery.entities import Asked, Chunk, Rejected, Step
from protos.kit.patches import bytes_of
from protos.topics import MAX_ARTIFACT_BYTES, MAX_CHUNK_BYTES
from protos.v1 import manifest_pb2

DIGEST_BYTES = 32

SHORTEST_PATIENCE_S = 0.3
LONGEST_PATIENCE_S = 60.0
KNOWN_PATCHES = (manifest_pb2.PATCH_KIND_DIFFERENCE, manifest_pb2.PATCH_KIND_DICTIONARY)
GROWTH = 1.3
RESUBSCRIPTIONS = 5
"""In vain, before the cloud is asked. Where one delivery in five is lost, 1 device in 16,000 asks for a chunk that the
broker has: so a fleet of a thousand costs the cloud hardly more than one device does."""

FIRST_WINDOW = 4.0
MAX_WINDOW = 32.0
"""2 MB of chunks."""
MOST_ASKED = 40
"""Subscriptions at once, with those to chunks that do not come: AWS IoT Core has 50 for a connection."""
SOON_S = 0.5
LATE_S = 1.5
BURST_S = 1.0


@dataclass(frozen=True, slots=True)
class Download:
    """The chunks of one artifact. `present` has bit i set when chunk i is here and proven."""

    digests: tuple[bytes, ...]
    sizes: tuple[int, ...]
    present: int = 0

    @property
    def missing(self) -> Iterator[int]:
        """Indices of the chunks that are not here, in order."""
        return (index for index in range(len(self.digests)) if not self.present >> index & 1)

    @property
    def count(self) -> int:
        """Chunks that are here."""
        return self.present.bit_count()

    @property
    def complete(self) -> bool:
        """Whether every chunk is here."""
        return self.count == len(self.digests)


def plan(artifact: manifest_pb2.Artifact) -> Download:
    """The download of an artifact of which nothing is here. Raises Rejected for what no device can fetch."""
    if len(artifact.digest) != DIGEST_BYTES or not 0 < artifact.size <= MAX_ARTIFACT_BYTES:
        raise Rejected(f"an artifact has a SHA-256 and 1 to {MAX_ARTIFACT_BYTES} bytes, not {artifact.size}")
    if artifact.compression not in (manifest_pb2.COMPRESSION_NONE, manifest_pb2.COMPRESSION_ZSTD):
        raise Rejected(f"compression {artifact.compression} is not known to this agent; a newer one may know it")
    if not artifact.chunks:
        raise Rejected("an artifact has at least one chunk")
    for index, chunk in enumerate(artifact.chunks):
        if len(chunk.digest) != DIGEST_BYTES or not 0 < chunk.size <= MAX_CHUNK_BYTES:
            raise Rejected(f"chunk {index} has {chunk.size} bytes; 1 to {MAX_CHUNK_BYTES} are allowed")
    return Download(tuple(c.digest for c in artifact.chunks), tuple(c.size for c in artifact.chunks))


def accept(download: Download, index: int, data: bytes) -> tuple[Download, Chunk]:
    """The download after `data` came as chunk `index`. Only bytes with the promised digest ever count."""
    if not 0 <= index < len(download.digests) or len(data) != download.sizes[index]:
        return download, Chunk.CORRUPT
    if download.present >> index & 1:
        return download, Chunk.DUPLICATE
    if hashlib.sha256(data).digest() != download.digests[index]:
        return download, Chunk.CORRUPT
    return replace(download, present=download.present | 1 << index), Chunk.NEW


def wanted(download: Download) -> dict[bytes, list[int]]:
    """The missing chunks by their digest: equal ones are wanted in several places."""
    found: dict[bytes, list[int]] = {}
    for index in download.missing:
        found.setdefault(download.digests[index], []).append(index)
    return found


def choose_patch(artifact: manifest_pb2.Artifact, held: Collection[bytes]) -> manifest_pb2.Patch | None:
    """The shortest way to the artifact from one of the files with the digests `held`; None: fetching it whole."""
    whole = bytes_of(artifact)
    usable = (patch for patch in artifact.patches if patch.base in held and _is_known(patch))
    return min((patch for patch in usable if 0 < bytes_of(patch) < whole), key=bytes_of, default=None)


def _is_known(patch: manifest_pb2.Patch) -> bool:
    """Whether this agent can apply it, and name its topics and file."""
    return patch.kind in KNOWN_PATCHES and len(patch.digest) == DIGEST_BYTES


def next_wanted(download: Download, asked: Collection[int], free: int) -> list[int]:
    """The chunks to ask for now, at most `free`, beside those that were asked for already."""
    return list(islice((index for index in download.missing if index not in asked), max(0, free)))


def bitmap(indices: Iterable[int], chunks: int) -> bytes:
    """The bitmap of a RepairRequest for an artifact of `chunks` chunks: bit i % 8 of byte i / 8 is chunk i."""
    bits = bytearray((chunks + 7) // 8)
    for index in indices:
        bits[index // 8] |= 1 << index % 8
    return bytes(bits)


# When a chunk is overdue, and what then.


def overdue_s(asked: Asked, patience_s: float, jitter: float) -> float:
    """The time at which a chunk is overdue that a good link brings within `patience_s`; `jitter` in [0, 1).

    Each attempt is given a little more time, each request to the cloud twice as much as the one before.
    """
    attempt = asked.attempts % (RESUBSCRIPTIONS + 1)
    waits_s = patience_s * GROWTH**attempt * 2.0 ** min(rounds(asked.attempts), 10) * (1 + jitter / 2)
    return asked.since_s + min(LONGEST_PATIENCE_S, waits_s)


def next_step(attempts: int) -> Step:
    """What to do about a chunk that did not come after so many `attempts` before this one."""
    return Step.REPAIR if attempts % (RESUBSCRIPTIONS + 1) == RESUBSCRIPTIONS else Step.RESUBSCRIBE


def rounds(attempts: int) -> int:
    """How many times the cloud was asked in so many attempts."""
    return attempts // (RESUBSCRIPTIONS + 1)


def corrupted(asked: Asked) -> Asked:
    """The broker has other bytes in a chunk's place: to subscribe again would bring them again."""
    return replace(asked, attempts=rounds(asked.attempts) * (RESUBSCRIPTIONS + 1) + RESUBSCRIPTIONS)


# How fast.


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the link takes for a chunk (smoothed as TCP does, RFC 6298), and how many to have on their way.

    The window grows while chunks come soon and is halved while they come late: by the delay, not by losses, which on
    MQTT are no sign of a crowded link.
    """

    window: float = FIRST_WINDOW
    is_first_climb: bool = True
    took_s: float = 0.0
    varies_s: float = 0.0
    halved_s: float = float("-inf")

    def patience_s(self, unmeasured_s: float) -> float:
        """How long a chunk may take; `unmeasured_s` before any has come."""
        if not self.took_s:
            return unmeasured_s
        return min(LONGEST_PATIENCE_S, max(SHORTEST_PATIENCE_S, self.took_s + 4 * self.varies_s))


def came(pace: Pace, took_s: float, now_s: float) -> Pace:
    """The pace after a chunk came that was asked for once, `took_s` ago."""
    took_s = max(took_s, 1e-6)
    if not pace.took_s:
        smooth_s, varies_s = took_s, took_s / 2
    else:
        smooth_s = pace.took_s + (took_s - pace.took_s) / 8
        varies_s = pace.varies_s + (abs(took_s - pace.took_s) - pace.varies_s) / 4
    measured = replace(pace, took_s=smooth_s, varies_s=varies_s)
    if took_s > LATE_S:
        return _halved(measured, took_s, now_s)
    if took_s > SOON_S:
        return replace(measured, is_first_climb=False)
    more = 1.0 if pace.is_first_climb else 1 / pace.window
    return replace(measured, window=min(MAX_WINDOW, pace.window + more))


def _halved(pace: Pace, took_s: float, now_s: float) -> Pace:
    """Once for all chunks that were on their way together."""
    if now_s - pace.halved_s < took_s:
        return pace
    return replace(pace, window=max(1.0, pace.window / 2), is_first_climb=False, halved_s=now_s)


@dataclass(frozen=True, slots=True)
class Budget:
    """A token bucket of bytes: a chunk may be asked for unless it is in debt. rate: bytes a second, 0: no limit."""

    rate: float
    credit: float = 0.0
    at_s: float = 0.0

    def at(self, now_s: float) -> Budget:
        """The budget then. What is not used within BURST_S is lost."""
        credit = self.credit + self.rate * max(0.0, now_s - self.at_s)
        return replace(self, credit=min(credit, self.rate * BURST_S), at_s=now_s)

    def spent(self, size: int) -> Budget:
        """The budget after a chunk of this size was asked for."""
        return replace(self, credit=self.credit - size) if self.rate else self

    @property
    def in_debt(self) -> bool:
        """Whether nothing may be asked for now. A fraction of a byte is no debt."""
        return self.credit <= -1

    @property
    def free_s(self) -> float:
        """When the next chunk may be asked for."""
        return self.at_s + max(0.0, -self.credit / self.rate) if self.rate else self.at_s


def affordable(budget: Budget, sizes: Sequence[int], wanted: Iterable[int]) -> tuple[list[int], Budget]:
    """The first of the chunks `wanted` that may be asked for now, and the budget after it."""
    taken: list[int] = []
    for index in wanted:
        if budget.in_debt:
            break
        budget = budget.spent(sizes[index])
        taken.append(index)
    return taken, budget
