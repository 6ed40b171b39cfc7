"""Which events are told at once, and which are counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.events import rules
from edge.events.entities import Entry, Recent
from edge.foundation.events import Event

DAY_S = 86_400


def entry(kind: str = "a.b", about: str = "", **more: int) -> Entry:
    return Entry(Event(kind, "text", about=about, **more), 0)  # type: ignore[arg-type]


def lived(arrivals: list[tuple[float, Entry]], until_s: float) -> list[tuple[float, Entry]]:
    """What is written, and when, if these come and somebody looks every second."""
    recent: Recent = {}
    written = []
    waiting = sorted(arrivals, key=lambda one: one[0])
    for now_s in range(int(until_s) + 1):
        while waiting and waiting[0][0] <= now_s:
            at_s, come = waiting.pop(0)
            recent, entries = rules.told(recent, come, at_s)
            written += [(at_s, one) for one in entries]
        recent, entries = rules.due(recent, now_s)
        written += [(float(now_s), one) for one in entries]
    return written + [(until_s, one) for one in rules.all_repeats(recent)]


def test_the_first_is_told_at_once_and_once() -> None:
    assert lived([(5.0, entry())], 300) == [(5.0, entry())]


def test_the_same_again_within_a_minute_is_told_as_one_at_its_end() -> None:
    written = lived([(5.0, entry()), (6.0, entry()), (60.0, entry())], 300)
    assert [(at_s, one.event.times) for at_s, one in written] == [(5.0, 1), (65.0, 2)]


def test_after_a_quiet_minute_it_is_told_at_once_again() -> None:
    written = lived([(5.0, entry()), (70.0, entry())], 300)
    assert [(at_s, one.event.times) for at_s, one in written] == [(5.0, 1), (70.0, 1)]


def test_what_goes_on_for_a_day_costs_about_an_event_an_hour() -> None:
    written = lived([(float(n), entry()) for n in range(0, DAY_S, 5)], DAY_S)
    assert 24 <= len(written) <= 32
    assert sum(one.event.times for _, one in written) == DAY_S // 5


def test_the_newest_of_what_was_counted_speaks_for_all() -> None:
    counted = [(float(n), Entry(Event("a.b", f"{n} lost"), n)) for n in range(3)]
    _, (_, last) = lived(counted, 100)
    assert (last.event.text, last.happened_ms, last.event.times) == ("2 lost", 2, 2)


def test_events_about_different_things_are_told_apart() -> None:
    different = [entry(about="camera"), entry(about="sensor"), entry("c.d"), entry(version=1)]
    assert [one for _, one in lived([(1.0, one) for one in different], 100)] == different


def test_of_ever_different_ones_of_a_kind_only_some_are_told_apart() -> None:
    written = lived([(1.0, entry(about=str(n))) for n in range(1000)], 100)
    assert len(written) == rules.MOST_OF_A_KIND + 2
    assert sum(one.event.times for _, one in written) == 1000


def test_a_flood_of_one_kind_keeps_no_other_from_being_told() -> None:
    flood = [(1.0, entry(about=str(n))) for n in range(1000)]
    assert (2.0, entry("c.d")) in lived([*flood, (2.0, entry("c.d"))], 10)


@given(st.lists(st.tuples(st.floats(0, 500), st.sampled_from("abc"), st.integers(1, 9))))
def test_nothing_that_happened_is_left_uncounted_and_the_first_is_never_late(
    arrivals: list[tuple[float, str, int]],
) -> None:
    come = [(at_s, entry(about=about, times=times)) for at_s, about, times in arrivals]
    written = lived(come, 600)
    for about in {about for _, about, _ in arrivals}:
        mine = [(at_s, one.event.times) for at_s, one in written if one.event.about == about]
        assert sum(times for _, times in mine) == sum(times for _, one, times in arrivals if one == about)
        assert mine[0][0] == min(at_s for at_s, one, _ in arrivals if one == about)
