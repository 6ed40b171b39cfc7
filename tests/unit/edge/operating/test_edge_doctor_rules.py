from __future__ import annotations

import pytest

from edge.foundation.clock import EARLIEST_MS
from edge.operating import rules
from edge.operating.entities import EXIT_CODES, Finding, Level, worst

MIB = 1024 * 1024
NOW_MS = EARLIEST_MS + 86_400_000
DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("now_ms", "cloud_ms", "level"),
    [
        (0, None, Level.FAILURE),
        (EARLIEST_MS - 1, NOW_MS, Level.FAILURE),
        (NOW_MS, None, Level.OK),
        (NOW_MS, NOW_MS + 4 * 60_000, Level.OK),
        (NOW_MS, NOW_MS + 6 * 60_000, Level.WARNING),
        (NOW_MS, NOW_MS - 10 * 365 * DAY_MS, Level.WARNING),
    ],
)
def test_a_clock_at_1970_is_a_failure_and_one_that_differs_from_the_clouds_a_warning(
    now_ms: int, cloud_ms: int | None, level: Level
) -> None:
    assert rules.judged_clock(now_ms, cloud_ms).level is level


@pytest.mark.parametrize(
    ("free_mib", "files", "held_mib", "level"),
    [
        (63, 1000, 0, Level.FAILURE),
        (10_000, 99, 0, Level.FAILURE),
        (300, 1000, 0, Level.WARNING),
        (300, 1000, 100, Level.OK),
        (320, 1000, 0, Level.OK),
    ],
)
def test_room_is_wanted_for_the_next_model_and_for_what_the_outbox_may_still_take(
    free_mib: int, files: int, held_mib: int, level: Level
) -> None:
    assert rules.judged_space(free_mib * MIB, files, 256 * MIB, held_mib * MIB).level is level


@pytest.mark.parametrize(
    ("days", "level"), [(-1, Level.FAILURE), (0, Level.FAILURE), (13, Level.WARNING), (15, Level.OK)]
)
def test_a_root_is_to_be_renewed_before_it_expires(days: int, level: Level) -> None:
    finding = rules.judged_root(NOW_MS + days * DAY_MS, NOW_MS)
    assert finding.level is level
    assert ("offline keys" in finding.mend) is (level is not Level.OK)


def test_what_expired_before_this_software_was_made_has_expired_whatever_the_clock_says() -> None:
    assert rules.judged_expiry("metadata", EARLIEST_MS - 1, 0, "renew").level is Level.FAILURE


def test_more_threads_than_cores_are_a_warning() -> None:
    assert [rules.judged_threads(n, 2).level for n in (1, 2, 3)] == [Level.OK, Level.OK, Level.WARNING]


def test_the_worst_finding_decides_the_exit_code() -> None:
    findings = [Finding("a", level, "") for level in (Level.OK, Level.WARNING, Level.FAILURE)]
    assert [EXIT_CODES[worst(findings[:count])] for count in range(4)] == [0, 0, 1, 2]
