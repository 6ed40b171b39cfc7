"""Times as people type and read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from cloud.foundation.times import moment, since, unix_ms

NOW = datetime(2026, 11, 25, 14, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "ago"),
    [("45s", timedelta(seconds=45)), ("30m", timedelta(minutes=30)), ("2h", timedelta(hours=2)), ("7d", timedelta(7))],
)
def test_a_span_is_back_from_now(said: str, ago: timedelta) -> None:
    assert since(said, NOW) == NOW - ago


def test_a_time_without_a_zone_is_in_utc() -> None:
    assert since("2026-11-25T13:30", NOW) == NOW - timedelta(minutes=30)
    assert since("2026-11-25T13:30+02:00", NOW).tzinfo == timezone(timedelta(hours=2))


@pytest.mark.parametrize("said", ["yesterday", "2", "2w", "-2h", "999999999d", ""])
def test_what_is_no_time_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match="write 30m, 2h, 7d"):
        since(said, NOW)


def test_a_time_in_milliseconds_is_utc_without_a_zone() -> None:
    assert unix_ms(datetime(1970, 1, 1, 0, 0, 1)) == unix_ms(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)) == 1000  # noqa: DTZ001
    assert unix_ms(None) is None


def test_a_time_that_no_calendar_has_is_shown_as_a_number() -> None:
    assert moment(1_000) == "1970-01-01 00:00:01"
    assert moment(2**62) == f"{2**62} ms"
