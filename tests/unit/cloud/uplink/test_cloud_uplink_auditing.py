"""The audit against the truth: a device and a cloud do what they like, by their own rules, and rows vanish."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.uplink import auditing, rules
from cloud.uplink.entities import Books, ReceivedBatch, StreamFacts, StreamState
from cloud.uplink.rules import LAST_SEQ
from edge.uplink import rules as outbox
from edge.uplink.entities import Ledger, NewBatch, Size


@dataclass
class World:
    """One stream. `rows`: the numbers in the database. `vanished`: taken out of it by nobody's rules."""

    ledger: Ledger = field(default_factory=lambda: Ledger(epoch=1))
    held: list[Size] = field(default_factory=list)
    sent: int = 0
    state: StreamState = field(default_factory=lambda: StreamState(0))
    books: Books = field(default_factory=lambda: Books(0))
    rows: set[int] = field(default_factory=set)
    expired: int = 0
    vanished: int = 0

    def append(self, count: int) -> None:
        frame = self.ledger.watermarks.get("s", 0) + 1
        self.ledger, stored = outbox.number(self.ledger, [NewBatch(count, b"x" * count, "s", frame)])
        self.held += [Size(one.last_seq, one.count, one.count) for one in stored]

    def drop(self, count: int) -> None:
        self.ledger, through = outbox.drop_oldest(self.ledger, self.held, max(0, self.ledger.bytes - count))
        self.held = [one for one in self.held if one.last_seq > through]

    def say(self) -> None:
        one = self.ledger
        self.books = Books(one.last_seq, one.before, one.dropped, one.rows, one.acknowledged)
        assert auditing.believable(self.books)

    def send(self, _: int, unreadable: str = "") -> None:
        batch = next((one for one in self.held if one.last_seq > self.sent), None)
        if batch is None:
            return
        first = batch.last_seq - batch.count + 1
        if first > self.sent + 1:
            self.say()
        received = ReceivedBatch(1, "edge-1", first, batch.count, b"", self.state.watermark)
        before, self.sent = self.state.watermark, batch.last_seq
        self.state, _placement = rules.place(self.state, received, unreadable)
        if not unreadable:
            self.rows |= set(range(max(first, before + 1), batch.last_seq + 1))

    def send_poison(self, _: int) -> None:
        self.send(0, "poison")

    def acknowledge(self, _: int) -> None:
        gone = [one for one in self.held if one.last_seq <= self.state.watermark]
        self.ledger = outbox.acknowledge(self.ledger, self.state.watermark, gone)
        self.held = self.held[len(gone) :]

    def connect_again(self, _: int) -> None:
        self.sent = self.state.watermark
        self.say()

    def expire(self, count: int) -> None:
        going = sorted(self.rows)[:count]
        self.rows -= set(going)
        self.expired += len(going)

    def vanish(self, count: int) -> None:
        going = sorted(self.rows)[-count:]
        self.rows -= set(going)
        self.vanished += len(going)

    def facts(self) -> StreamFacts:
        return StreamFacts(self.state, self.expired, len(self.rows), len(self.rows), self.books, 1)


DEEDS = ("append", "drop", "send", "send", "send_poison", "acknowledge", "connect_again", "expire", "vanish")


@given(st.lists(st.tuples(st.sampled_from(DEEDS), st.integers(1, 5)), max_size=60))
@settings(max_examples=300, deadline=None)
def test_exactly_what_vanished_is_lost_at_every_moment(deeds: list[tuple[str, int]]) -> None:
    world = World()
    for deed, count in deeds:
        getattr(world, deed)(count)
        account = auditing.audited("edge-1", [world.facts()], copies=0)
        assert account.lost == world.vanished
        assert account.doubled == 0
        assert account.made == account.waiting + account.dropped + account.sent
        assert account.sent == account.stored + account.expired + account.quarantined + account.lost
        assert account.waiting <= world.books.waiting


def test_numbers_of_an_earlier_life_are_not_made_in_this_one() -> None:
    ledger = Ledger(epoch=1, next_seq=11, acknowledged=4, rows=6, dropped=2)
    begun = outbox.begin_epoch(ledger, 2)
    assert (begun.before, begun.dropped, begun.acknowledged) == (4, 0, 0)
    facts = StreamFacts(StreamState(0), books=Books(10, begun.before, waiting=begun.rows), said_ms=1)
    account = auditing.audited("edge-1", [facts], copies=0)
    assert (account.made, account.waiting, account.lost) == (6, 6, 0)


GOOD = Books(last_seq=10, before=1, dropped=4, waiting=5, acknowledged=10)


@pytest.mark.parametrize(
    "wrong", [{"waiting": 6}, {"dropped": 5}, {"before": 2}, {"acknowledged": 11}, {"last_seq": LAST_SEQ + 1}]
)
def test_books_that_do_not_add_up_or_fit_are_not_believed(wrong: dict[str, int]) -> None:
    assert auditing.believable(GOOD)
    assert not auditing.believable(replace(GOOD, **wrong))
