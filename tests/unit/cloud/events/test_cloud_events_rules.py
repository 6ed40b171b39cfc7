"""Which batches of events are believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.events.entities import Event, Severity
from cloud.events.rules import read
from protos.kit.columns import Malformed
from protos.topics import MAX_EVENT_TEXT, MAX_EVENTS
from protos.v1 import uplink_pb2


def told(**fields: object) -> uplink_pb2.Event:
    return uplink_pb2.Event(**{"kind": "update.committed", **fields})  # type: ignore[arg-type]


def encoded(*events: uplink_pb2.Event) -> bytes:
    return uplink_pb2.EventBatch(events=events).SerializeToString()


def test_every_field_is_read() -> None:
    whole = told(
        happened_ms=5,
        severity=uplink_pb2.SEVERITY_WARNING,
        slot="audio",
        model="sounds",
        version=3,
        text="so it was",
        times=4,
    )
    assert read(encoded(whole), 1) == [
        Event(5, "update.committed", Severity.WARNING, "audio", "sounds", 3, "so it was", 4)
    ]


def test_what_happened_once_need_not_say_so() -> None:
    assert read(encoded(told()), 1)[0].times == 1


@pytest.mark.parametrize(("said", "taken"), [(2, Severity.ERROR), (7, Severity.ERROR), (-1, Severity.INFO)])
def test_a_severity_that_only_a_newer_agent_knows_is_taken_for_the_nearest(said: int, taken: Severity) -> None:
    assert read(encoded(told(severity=said)), 1)[0].severity is taken


@pytest.mark.parametrize("kind", ["update.rolled_back", "a.b.c", "inference.process-ended", "0.1"])
def test_a_kind_is_words_with_dots_between(kind: str) -> None:
    assert read(encoded(told(kind=kind)), 1)[0].kind == kind


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (told(kind=""), "event of kind ''"),
        (told(kind="update"), "kind"),
        (told(kind="Update.committed"), "kind"),
        (told(kind="update."), "kind"),
        (told(kind="a." + "b" * 62), "kind"),
        (told(kind="a.\0"), "kind"),
        (told(slot="No Slot"), "slot 'No Slot'"),
        (told(model="x" * 64), "model"),
        (told(text="x" * (MAX_EVENT_TEXT + 1)), "501 characters"),
    ],
)
def test_what_breaks_a_limit_is_named(event: uplink_pb2.Event, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        read(encoded(told(), event), 2)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_batch_has_as_many_events_as_its_envelope_says(count: int) -> None:
    with pytest.raises(Malformed, match=f"2 events, the envelope says {count}"):
        read(encoded(told(), told()), count)


def test_a_batch_has_some_events_and_not_too_many() -> None:
    assert len(read(encoded(*[told()] * MAX_EVENTS), MAX_EVENTS)) == MAX_EVENTS
    with pytest.raises(Malformed, match="513 events"):
        read(encoded(*[told()] * (MAX_EVENTS + 1)), MAX_EVENTS + 1)
    with pytest.raises(Malformed, match="0 events"):
        read(b"", 0)


@given(st.binary(max_size=200), st.integers(0, 2**32))
def test_whatever_comes_is_events_or_malformed(payload: bytes, count: int) -> None:
    try:
        events = read(payload, count)
    except Malformed:
        return
    assert len(events) == count


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.text(max_size=MAX_EVENT_TEXT))
def test_numbers_and_texts_fit_into_a_database(happened_ms: int, version: int, text: str) -> None:
    (event,) = read(encoded(told(happened_ms=happened_ms, version=version, text=text)), 1)
    assert max(event.happened_ms, event.version) < 2**63
    assert "\0" not in event.text
