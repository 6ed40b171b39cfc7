"""Whatever happens in whatever order: nothing is told before it can be fetched, nothing needed is cleared."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.delivery.entities import BadRequest, Bundle
from cloud.delivery.rules import (
    LINGER_MS,
    MAX_REQUEST_BYTES,
    REPEAT_MS,
    RETRY_MS,
    Repairs,
    Session,
    indexes,
    read_request,
)
from cloud.fleet.entities import Desired
from protos.v1.delivery_pb2 import RepairRequest

# Bundles 0 and 1 share artifact A, as two versions with the same file do.
BUNDLES = {
    b"m0": Bundle(b"m0", {b"A": 2}),
    b"m1": Bundle(b"m1", {b"A": 2, b"B": 3}),
    b"m2": Bundle(b"m2", {b"C": 1}),
}
NO_MODEL = b""


def row(device: str, generation: int, manifest: bytes, issued_ms: int = 0) -> Desired:
    return Desired(device, "default", generation, "digits", 1, manifest, "", b"signed", issued_ms)


class Cut(Exception):
    """The connection ends."""


@dataclass
class World:
    """A database, a broker that keeps or loses what it has between connections, and the publisher's procedure."""

    now_ms: int = 0
    session: Session = field(default_factory=Session)
    newest: dict[str, Desired] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)
    manifests: set[bytes] = field(default_factory=set)
    chunks: set[tuple[bytes, int]] = field(default_factory=set)
    told: dict[str, int] = field(default_factory=dict)
    budget: int = 10**9

    def needed(self) -> list[Desired]:
        return [row for device, row in self.newest.items() if self.answered.get(device, 0) < row.generation]

    def say(self) -> None:
        self.budget -= 1
        if self.budget < 0:
            raise Cut

    def connect(self, *, broker_forgets: bool) -> None:
        self.session = Session()
        if broker_forgets:
            self.manifests.clear()
            self.chunks.clear()
            self.told.clear()

    def run_pass(self) -> None:
        self.tell()
        for manifest in self.session.missing(self.needed(), self.now_ms):
            self.say()
            self.manifests.add(manifest)
            for artifact in self.session.begun(BUNDLES[manifest], self.now_ms):
                for index in range(BUNDLES[manifest].artifacts[artifact]):
                    self.say()
                    self.chunks.add((artifact, index))
            self.session.completed(manifest)
            self.tell()
        for manifest in self.manifests:
            self.session.found(BUNDLES[manifest], self.now_ms)
        self.clear()

    def tell(self) -> None:
        for due in self.session.due(self.needed()):
            self.say()
            assert self.is_fetchable(due), f"{due} is told before all that it needs is there"
            self.told[due.device] = due.generation
            self.session.told(due)

    def clear(self) -> None:
        needed = {row.manifest for row in self.needed()}
        wanted = {artifact for manifest in needed if manifest for artifact in BUNDLES[manifest].artifacts}
        for manifest in self.session.stale(needed, self.now_ms):
            assert manifest not in needed
            for artifact, count in self.session.dropped(manifest).items():
                assert artifact not in wanted, f"{artifact!r} is cleared while a device needs it"
                for index in range(count):
                    self.say()
                    self.chunks.discard((artifact, index))
            self.say()
            self.manifests.discard(manifest)

    def is_fetchable(self, desired: Desired) -> bool:
        if desired.manifest == NO_MODEL:
            return True
        parts = BUNDLES[desired.manifest].artifacts.items()
        there = all((artifact, index) in self.chunks for artifact, count in parts for index in range(count))
        return there and desired.manifest in self.manifests


devices = st.sampled_from(["edge-1", "edge-2", "edge-3"])
events = st.one_of(
    st.tuples(st.just("desire"), devices, st.sampled_from([*BUNDLES, NO_MODEL])),
    st.tuples(st.just("report"), devices),
    st.tuples(st.just("connect"), st.booleans()),
    st.tuples(st.just("pass"), st.integers(0, 12)),
    st.tuples(st.just("pass"), st.just(10**9)),
    st.tuples(st.just("wait"), st.sampled_from([100, LINGER_MS // 2, LINGER_MS])),
)


def apply(world: World, event: tuple[object, ...]) -> None:
    match event:
        case ("desire", str(device), bytes(manifest)):
            former = world.newest.get(device)
            world.newest[device] = row(device, former.generation + 1 if former else 1, manifest)
        case ("report", str(device)) if device in world.newest:
            world.answered[device] = world.newest[device].generation
        case ("connect", bool(forgets)):
            world.connect(broker_forgets=forgets)
        case ("pass", int(budget)):
            world.budget = budget
            try:
                world.run_pass()
            except Cut:
                world.connect(broker_forgets=False)
        case ("wait", int(ms)):
            world.now_ms += ms


@settings(max_examples=400)
@given(st.lists(events, max_size=40))
def test_in_any_order_of_events_nothing_is_told_too_early_nor_cleared_while_needed(
    history: list[tuple[object, ...]],
) -> None:
    world = World()
    for event in history:
        apply(world, event)  # asserts both


@given(st.lists(events, max_size=40), st.booleans())
def test_after_any_history_one_whole_pass_brings_everything_that_is_needed(
    history: list[tuple[object, ...]],
    forgets: bool,  # noqa: FBT001 - drawn
) -> None:
    world = World()
    for event in history:
        apply(world, event)
    world.budget = 10**9
    world.connect(broker_forgets=forgets)
    world.run_pass()
    for needed in world.needed():
        assert world.told[needed.device] == needed.generation
        assert world.is_fetchable(needed)


@given(st.lists(events, max_size=40))
def test_after_any_history_nothing_is_left_once_every_device_has_answered(history: list[tuple[object, ...]]) -> None:
    world = World()
    for event in history:
        apply(world, event)
    world.answered = {device: newest.generation for device, newest in world.newest.items()}
    world.budget = 10**9
    world.run_pass()
    world.now_ms += LINGER_MS
    world.run_pass()
    assert (world.manifests, world.chunks) == (set(), set())


def test_ten_thousand_devices_cost_the_chunks_of_one() -> None:
    session = Session()
    wanted = [row(f"edge-{number}", 1, b"m1") for number in range(10_000)]
    assert session.missing(wanted, 0) == [b"m1"]
    assert session.begun(BUNDLES[b"m1"], 0) == [b"A", b"B"]
    session.completed(b"m1")
    assert session.missing(wanted, 0) == []
    assert len(session.due(wanted)) == 10_000


def test_chunks_that_another_version_brought_are_not_sent_again() -> None:
    session = Session()
    session.begun(BUNDLES[b"m0"], 0)
    session.completed(b"m0")
    assert session.begun(BUNDLES[b"m1"], 0) == [b"B"]


def test_chunks_of_a_version_that_is_only_half_there_are_not_relied_on() -> None:
    session = Session()
    session.begun(BUNDLES[b"m0"], 0)
    assert session.begun(BUNDLES[b"m1"], 0) == [b"A", b"B"]


def test_a_deployment_that_was_signed_anew_is_told_again() -> None:
    session = Session()
    session.told(row("edge-1", 1, NO_MODEL, issued_ms=5))
    assert session.due([row("edge-1", 1, NO_MODEL, issued_ms=5)]) == []
    assert session.due([row("edge-1", 1, NO_MODEL, issued_ms=6)]) != []


def test_an_older_generation_never_replaces_a_newer_one() -> None:
    session = Session()
    session.told(row("edge-1", 2, NO_MODEL))
    assert session.due([row("edge-1", 1, NO_MODEL, issued_ms=9)]) == []


def test_a_model_that_cannot_be_delivered_is_tried_again_later_and_holds_up_no_other() -> None:
    session = Session()
    wanted = [row("edge-1", 1, b"m0"), row("edge-2", 1, b"m2")]
    session.failed(b"m0", 0)
    assert session.missing(wanted, RETRY_MS - 1) == [b"m2"]
    assert session.missing(wanted, RETRY_MS) == [b"m0", b"m2"]
    assert session.due(wanted) == []


def test_a_bundle_stays_for_the_next_wave() -> None:
    session = Session()
    session.begun(BUNDLES[b"m0"], 0)
    session.completed(b"m0")
    assert session.stale({b"m0"}, 1000) == []
    assert session.stale(set(), 1000 + LINGER_MS - 1) == []
    assert session.stale(set(), 1000 + LINGER_MS) == [b"m0"]


bitmaps = st.integers(0, 2**40 - 1)


@given(st.lists(st.tuples(st.sampled_from([b"A", b"B"]), bitmaps), max_size=20))
def test_each_chunk_that_any_device_asks_for_is_sent_once(requests: list[tuple[bytes, int]]) -> None:
    repairs = Repairs()
    for artifact, missing in requests:
        repairs.ask(artifact, missing)
    sent = repairs.take(0)
    assert len(set(sent)) == len(sent)
    assert set(sent) == {(artifact, index) for artifact, missing in requests for index in indexes(missing)}
    assert repairs.take(0) == []


@given(st.lists(st.tuples(bitmaps, st.integers(0, REPEAT_MS * 2)), max_size=20))
def test_a_chunk_is_not_sent_twice_within_the_interval(requests: list[tuple[int, int]]) -> None:
    repairs, now_ms = Repairs(), 0
    sent: dict[int, list[int]] = {}
    for missing, later_ms in requests:
        now_ms += later_ms
        repairs.ask(b"A", missing)
        for _, index in repairs.take(now_ms):
            sent.setdefault(index, []).append(now_ms)
    assert all(after - before >= REPEAT_MS for times in sent.values() for before, after in pairwise(times))


@given(bitmaps.filter(bool))
def test_a_request_is_read_as_its_bitmap(missing: int) -> None:
    payload = RepairRequest(artifact=b"A", missing=missing.to_bytes(5, "little")).SerializeToString()
    bits = read_request(b"A", payload, 40)
    assert bits == missing
    assert [index for index in range(40) if missing >> index & 1] == indexes(bits)


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        (b"\xff", "not a RepairRequest"),
        (b"", "another artifact"),
        (RepairRequest(artifact=b"B", missing=b"\1").SerializeToString(), "another artifact"),
        (RepairRequest(artifact=b"A").SerializeToString(), "none of the 8 chunks"),
        (RepairRequest(artifact=b"A", missing=b"\0\0").SerializeToString(), "none of the 8 chunks"),
        (RepairRequest(artifact=b"A", missing=b"\0\1").SerializeToString(), "more than there are"),
        (bytes(MAX_REQUEST_BYTES + 1), f"allowed are {MAX_REQUEST_BYTES}"),
    ],
)
def test_a_request_that_asks_for_nothing_that_exists_is_refused(payload: bytes, complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint):
        read_request(b"A", payload, 8)


@given(st.binary(max_size=200), st.integers(0, 100))
def test_any_bytes_are_a_request_within_the_artifact_or_refused(payload: bytes, chunks: int) -> None:
    with suppress(BadRequest):
        assert read_request(b"A", payload, chunks).bit_length() <= chunks
