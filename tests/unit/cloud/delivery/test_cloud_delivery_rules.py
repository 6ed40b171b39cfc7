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
    DOUBT_MS,
    LINGER_MS,
    LONGEST_REPEAT_MS,
    MAX_REQUEST_BYTES,
    REPEAT_MS,
    RETRY_MS,
    Holdings,
    Repairs,
    indexes,
    read_request,
)
from cloud.fleet.entities import Desired
from protos.v1.delivery_pb2 import RepairRequest

# Bundles 0 and 1 share artifact A, as two versions with the same file do.
BUNDLES = {
    b"m0": Bundle(b"m0", b"signed m0", {b"A": 2}),
    b"m1": Bundle(b"m1", b"signed m1", {b"A": 2, b"B": 3}),
    b"m2": Bundle(b"m2", b"signed m2", {b"C": 1}),
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
    holdings: Holdings = field(default_factory=Holdings)
    newest: dict[str, Desired] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)
    manifests: set[bytes] = field(default_factory=set)
    chunks: set[tuple[bytes, int]] = field(default_factory=set)
    told: dict[str, int] = field(default_factory=dict)
    published: int = 0
    budget: int = 10**9

    def needed(self) -> list[Desired]:
        return [row for device, row in self.newest.items() if self.answered.get(device, 0) < row.generation]

    def say(self) -> None:
        self.budget -= 1
        if self.budget < 0:
            raise Cut

    def connect(self, *, broker_forgets: bool, restarted: bool = False) -> None:
        if restarted:
            self.holdings = Holdings()
        if broker_forgets:
            self.manifests.clear()
            self.chunks.clear()
            self.told.clear()
        self.holdings.connected(self.now_ms)
        for manifest in self.manifests:
            self.holdings.seen(manifest, BUNDLES[manifest].signed)

    def run_pass(self) -> None:
        self.tell()
        for manifest in self.holdings.missing(self.needed(), self.now_ms):
            self.bring(BUNDLES[manifest])
            self.tell()
        for manifest in self.manifests:
            self.holdings.found(BUNDLES[manifest], self.now_ms)
        self.clear()

    def bring(self, bundle: Bundle) -> None:
        missing = self.holdings.begun(bundle, self.now_ms)
        if not self.holdings.confirmed(bundle.manifest):
            self.say()
            self.manifests.add(bundle.manifest)
            self.holdings.has_manifest(bundle.manifest)
        for artifact, index in missing:
            self.say()
            self.published += 1
            self.chunks.add((artifact, index))
            self.holdings.has_chunk(artifact, index)

    def tell(self) -> None:
        for due in self.holdings.due(self.needed()):
            self.say()
            assert self.is_fetchable(due), f"{due} is told before all that it needs is there"
            self.told[due.device] = due.generation
            self.holdings.told(due)

    def clear(self) -> None:
        needed = {row.manifest for row in self.needed()}
        wanted = {artifact for manifest in needed if manifest for artifact in BUNDLES[manifest].artifacts}
        for manifest in self.holdings.stale(needed, self.now_ms):
            assert manifest not in needed
            for artifact, count in self.holdings.dropped(manifest).items():
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
    st.tuples(st.just("connect"), st.booleans(), st.booleans()),
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
        case ("connect", bool(forgets), bool(restarted)):
            world.connect(broker_forgets=forgets, restarted=restarted)
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
    world.now_ms += DOUBT_MS
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
    world.now_ms += DOUBT_MS
    world.run_pass()
    world.now_ms += LINGER_MS
    world.run_pass()
    assert (world.manifests, world.chunks) == (set(), set())


@given(st.lists(st.integers(0, 6), max_size=8))
def test_a_broker_that_keeps_what_it_acknowledged_is_never_sent_it_again(budgets: list[int]) -> None:
    """Cut off again and again in the middle of a bundle: every chunk is published once."""
    world = World()
    world.newest["edge-1"] = row("edge-1", 1, b"m1")
    for budget in [*budgets, 10**9]:
        world.budget = budget
        with suppress(Cut):
            world.run_pass()
        world.connect(broker_forgets=False)
    assert world.is_fetchable(world.newest["edge-1"])
    assert world.published == sum(BUNDLES[b"m1"].artifacts.values())


def test_a_broker_that_comes_back_empty_is_given_the_bundle_again_once_it_had_time_to_show_it() -> None:
    world = World()
    world.newest["edge-1"] = row("edge-1", 1, b"m0")
    world.run_pass()
    world.connect(broker_forgets=True)
    world.now_ms += DOUBT_MS - 1
    assert world.holdings.missing(world.needed(), world.now_ms) == []
    assert world.holdings.due(world.needed()) == []
    world.now_ms += 1
    assert world.holdings.missing(world.needed(), world.now_ms) == [b"m0"]
    assert world.holdings.begun(BUNDLES[b"m0"], world.now_ms) == [(b"A", 0), (b"A", 1)]


def test_another_manifest_in_the_place_of_ours_does_not_show_that_the_bundle_is_there() -> None:
    holdings = holding(b"m0")
    holdings.connected(0)
    assert not holdings.seen(b"m0", b"forged")
    assert not holdings.seen(b"m2", BUNDLES[b"m2"].signed)
    assert holdings.missing([row("edge-1", 1, b"m0")], DOUBT_MS) == [b"m0"]


def test_after_a_connect_desired_states_are_told_again() -> None:
    holdings = holding(b"m0")
    holdings.told(row("edge-1", 1, b"m0"))
    holdings.connected(0)
    holdings.seen(b"m0", BUNDLES[b"m0"].signed)
    assert holdings.due([row("edge-1", 1, b"m0")]) != []


def holding(*manifests: bytes) -> Holdings:
    """All of these bundles are there."""
    holdings = Holdings()
    for manifest in manifests:
        chunks = holdings.begun(BUNDLES[manifest], 0)
        holdings.has_manifest(manifest)
        for chunk in chunks:
            holdings.has_chunk(*chunk)
    return holdings


def test_ten_thousand_devices_cost_the_chunks_of_one() -> None:
    wanted = [row(f"edge-{number}", 1, b"m1") for number in range(10_000)]
    assert Holdings().missing(wanted, 0) == [b"m1"]
    holdings = holding(b"m1")
    assert holdings.missing(wanted, 0) == []
    assert len(holdings.due(wanted)) == 10_000


def test_chunks_that_another_version_brought_are_not_sent_again() -> None:
    assert holding(b"m0").begun(BUNDLES[b"m1"], 0) == [(b"B", 0), (b"B", 1), (b"B", 2)]


def test_of_a_version_that_is_only_half_there_the_other_half_is_sent() -> None:
    holdings = Holdings()
    holdings.begun(BUNDLES[b"m0"], 0)
    holdings.has_manifest(b"m0")
    holdings.has_chunk(b"A", 1)
    assert holdings.missing([row("edge-1", 1, b"m0")], 0) == [b"m0"]
    assert holdings.begun(BUNDLES[b"m0"], 0) == [(b"A", 0)]
    assert holdings.chunks(b"A") == 0


def test_what_was_cleared_is_not_wanted_until_it_is_begun_again() -> None:
    holdings = holding(b"m0", b"m1")
    assert holdings.dropped(b"m1") == {b"B": 3}
    assert (holdings.wants(b"A"), holdings.wants(b"B")) == (True, False)
    holdings.has_chunk(b"B", 0)  # acknowledged late
    assert holdings.begun(BUNDLES[b"m1"], 0) == [(b"B", 0), (b"B", 1), (b"B", 2)]


def test_a_deployment_that_was_signed_anew_is_told_again() -> None:
    holdings = Holdings()
    holdings.told(row("edge-1", 1, NO_MODEL, issued_ms=5))
    assert holdings.due([row("edge-1", 1, NO_MODEL, issued_ms=5)]) == []
    assert holdings.due([row("edge-1", 1, NO_MODEL, issued_ms=6)]) != []


def test_an_older_generation_never_replaces_a_newer_one() -> None:
    holdings = Holdings()
    holdings.told(row("edge-1", 2, NO_MODEL))
    assert holdings.due([row("edge-1", 1, NO_MODEL, issued_ms=9)]) == []


def test_a_model_that_cannot_be_delivered_is_tried_again_later_and_holds_up_no_other() -> None:
    holdings = Holdings()
    wanted = [row("edge-1", 1, b"m0"), row("edge-2", 1, b"m2")]
    holdings.failed(b"m0", 0)
    assert holdings.missing(wanted, RETRY_MS - 1) == [b"m2"]
    assert holdings.missing(wanted, RETRY_MS) == [b"m0", b"m2"]
    assert holdings.due(wanted) == []


def test_a_bundle_stays_for_the_next_wave() -> None:
    holdings = holding(b"m0")
    assert holdings.stale({b"m0"}, 1000) == []
    assert holdings.stale(set(), 1000 + LINGER_MS - 1) == []
    assert holdings.stale(set(), 1000 + LINGER_MS) == [b"m0"]


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


@given(st.integers(1, 1000), st.integers(0, 600_000))
def test_however_many_devices_ask_for_a_chunk_it_is_sent_ever_less_often(devices: int, over_ms: int) -> None:
    repairs, sent = Repairs(), 0
    for number in range(devices):
        repairs.ask(b"A", 1)
        sent += len(repairs.take(over_ms * number // devices))
    assert sent <= 1 + over_ms / LONGEST_REPEAT_MS + (LONGEST_REPEAT_MS // REPEAT_MS).bit_length()


def test_a_chunk_that_the_broker_loses_every_time_is_sent_for_as_long_as_it_is_asked_for() -> None:
    repairs, times = Repairs(), []
    for now_ms in range(0, 300_000, 100):
        repairs.ask(b"A", 1)
        times += [now_ms for _ in repairs.take(now_ms)]
    assert [after - before for before, after in pairwise(times)] == [
        5000, 10_000, 20_000, 40_000, 80_000, 80_000
    ]  # fmt: skip


def test_a_chunk_that_was_not_asked_for_in_a_long_time_is_sent_as_readily_as_the_first_time() -> None:
    repairs = Repairs()
    for now_ms in (0, REPEAT_MS, 3 * LONGEST_REPEAT_MS, 3 * LONGEST_REPEAT_MS + REPEAT_MS):
        repairs.ask(b"A", 1)
        assert repairs.take(now_ms) == [(b"A", 0)]


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
