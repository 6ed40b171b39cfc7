"""What the cloud does with samples: one method for each use, synchronous, to be called from any thread.

A frame's file is written before the row that names it, and removed after the last row is gone. Both the adding of rows
and the removing of files happen in transactions that exclude each other, so no row is ever left without its file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from cloud.fleet.entities import UnknownDevice
from cloud.fleet.service import Fleet
from cloud.foundation.database import Database, Transaction
from cloud.registry.entities import UnknownArtifact, UnknownModel
from cloud.registry.service import Registry
from cloud.samples import rules, store
from cloud.samples.entities import (
    Answer,
    InvalidPolicy,
    Known,
    Offer,
    Policy,
    Sample,
    Totals,
    UnknownPolicy,
    UnknownSample,
    Wanted,
)
from cloud.samples.kept import Frames, Parts

DAY_S = 86_400
PARTIAL_S = 7 * DAY_S
"""A frame that has come in part is waited for so long."""
ORPHAN_S = DAY_S
"""A file older than this has had its row, or never gets one."""
SLICE = 500

STORED = Answer(stored=True)


class Samples:
    """Policies, and the samples that devices send by them."""

    def __init__(self, database: Database, registry: Registry, fleet: Fleet, frames: Frames, parts: Parts) -> None:
        self._database = database
        self._registry = registry
        self._fleet = fleet
        self._frames = frames
        self._parts = parts
        self._known: dict[bytes, Known] = {}

    def policies(self) -> list[Policy]:
        """All, by name."""
        with self._database.reading() as connection:
            return store.all_policies(connection)

    def set_policy(self, policy: Policy) -> None:
        """Have devices follow this policy, in place of one of the same name. Raises InvalidPolicy."""
        rules.check_policy(policy)
        with self._database.transaction() as connection:
            others = [one for one in store.all_policies(connection) if one.name != policy.name]
            if len(others) >= rules.MAX_POLICIES:
                raise InvalidPolicy(f"there are {len(others)} policies already: remove one first")
            store.put_policy(connection, policy)

    def remove_policy(self, name: str) -> None:
        """Have devices follow this policy no more. Raises UnknownPolicy."""
        with self._database.transaction() as connection:
            if not store.remove_policy(connection, name):
                raise UnknownPolicy(f"there is no sample policy {name!r}")

    def followed_by(self, devices: Sequence[str]) -> dict[str, tuple[Policy, ...]]:
        """The policies of each of these devices."""
        every = self.policies()
        labels = self._labels(devices) if any(policy.selector for policy in every) else {}
        return {device: rules.for_device(every, labels.get(device, {})) for device in devices}

    def offered(self, device: str, offer: Offer, now_ms: int) -> Answer:
        """A device has a frame: keep the sample at once if the bytes are here already."""
        if problem := rules.complaint(offer, self._find(offer.manifest)):
            return Answer(refused=problem)
        if self._add(device, offer, now_ms):
            return STORED
        return Answer(offset=min(self._parts.length(device, offer.digest), offer.size - 1))

    def piece(self, device: str, offer: Offer, offset: int, data: bytes, now_ms: int) -> Answer:
        """Part of a frame that the device was asked for. The last one makes the sample durable."""
        if self._add(device, offer, now_ms):  # meanwhile it came another way
            return STORED
        length = self._parts.length(device, offer.digest)
        if offset > length or offset + len(data) > offer.size:
            return Answer(offset=length)
        length = self._parts.write(device, offer.digest, offset, data)
        if length < offer.size:
            return Answer(offset=length)
        return self._complete(device, offer, now_ms)

    def listed(self, wanted: Wanted) -> list[Sample]:
        """Samples with their results, the newest first."""
        with self._database.reading() as connection:
            return store.listed(connection, wanted)

    def sample(self, sample: int) -> Sample:
        """One. Raises UnknownSample."""
        with self._database.reading() as connection:
            found = store.find(connection, sample)
        if found is None:
            raise UnknownSample(f"there is no sample {sample}")
        return found

    def frame(self, sample: Sample) -> bytes:
        """The frame's bytes, raw pixels. Raises UnknownSample."""
        try:
            return self._frames.read(sample.offer.digest)
        except UnknownArtifact as error:
            raise UnknownSample(f"the frame of sample {sample.id} is no longer kept") from error

    def shape(self, manifest: bytes) -> tuple[int, ...]:
        """Height, width[, channels] of a registered version's frames; empty: it is not registered."""
        known = self._find(manifest)
        return known.shape if known else ()

    def totals(self) -> Totals:
        """How many there are."""
        with self._database.reading() as connection:
            return store.totals(connection)

    def expire(self, now_ms: int, days: int, most_bytes: int) -> int:
        """Drop samples received more than `days` days ago, then the oldest above `most_bytes`; 0: without limit.

        In short transactions. Returns how many.
        """
        dropped = 0
        while days and (gone := self._drop_oldest(now_ms - days * DAY_S * 1000)):
            dropped += gone
        while most_bytes and self.totals().bytes > most_bytes:
            dropped += self._drop_oldest()
        self._parts.drop_older_than(now_ms / 1000 - PARTIAL_S)
        self._frames.remove_unfinished(now_ms / 1000 - ORPHAN_S)
        self._drop_orphans(self._frames.older_than(now_ms / 1000 - ORPHAN_S))
        return dropped

    def _complete(self, device: str, offer: Offer, now_ms: int) -> Answer:
        data = self._parts.read(device, offer.digest)
        if hashlib.sha256(data).digest() != offer.digest:
            self._parts.drop(device, offer.digest)
            return Answer(wrong=True)
        while not self._add(device, offer, now_ms):  # retention may remove a file between its writing and its row
            self._frames.put(data)
        self._parts.drop(device, offer.digest)
        return STORED

    def _add(self, device: str, offer: Offer, now_ms: int) -> bool:
        """Keep a sample's row if its file is there."""
        if self._frames.size(offer.digest) != offer.size:
            return False
        with self._database.transaction() as connection:
            there = self._frames.size(offer.digest, connection) == offer.size
            if there:
                store.add(connection, device, offer, now_ms)
        return there

    def _drop_oldest(self, before_ms: int | None = None) -> int:
        limit = SLICE if before_ms is not None else 1 + SLICE // 10
        with self._database.transaction() as connection:
            going = store.oldest(connection, limit, before_ms)
            store.remove(connection, [sample for sample, _ in going])
        self._drop_orphans(digest for _, digest in going)
        return len(going)

    def _drop_orphans(self, digests: Iterable[bytes]) -> None:
        waiting = list(digests)
        for start in range(0, len(waiting), SLICE):
            some = waiting[start : start + SLICE]
            with self._database.transaction() as connection:
                self._remove_unused(connection, some)

    def _remove_unused(self, connection: Transaction, digests: Sequence[bytes]) -> None:
        for digest in set(digests) - store.in_use(connection, digests):
            self._frames.remove(digest, connection)

    def _labels(self, devices: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        if len(devices) > 1:
            return self._fleet.labels()
        try:
            return {device: self._fleet.device(device).labels for device in devices}
        except UnknownDevice:
            return {}

    def _find(self, manifest: bytes) -> Known | None:
        """A version never changes, so each is read once; an unknown one may come."""
        if manifest not in self._known:
            try:
                registered = self._registry.by_digest(manifest)
            except UnknownModel:
                return None
            parsed = registered.parsed()
            shape = tuple(parsed.preprocessing.frame_shape)
            self._known[manifest] = Known(registered.model, registered.version, len(parsed.labels), shape)
        return self._known[manifest]
