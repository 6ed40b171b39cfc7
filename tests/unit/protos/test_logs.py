"""Log lines: JSON on standard error when nobody watches, with what they are about, and never on standard output."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

PRELUDE = """
import logging, structlog, warnings
from protos.kit import logs
log = structlog.get_logger()
"""


def run(program: str) -> tuple[str, list[dict[str, Any]]]:
    """Standard output of a process that logs, and its log lines."""
    done = subprocess.run([sys.executable, "-c", PRELUDE + program], capture_output=True, text=True, check=True)
    return done.stdout, [json.loads(line) for line in done.stderr.splitlines()]


def test_a_line_is_one_json_object_with_time_level_and_what_it_is_about() -> None:
    stdout, lines = run("logs.configure()\nlog.info('committed', device='edge-1', version=2)\nprint('result')")
    assert stdout == "result\n"
    (line,) = lines
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "committed", "level": "info", "device": "edge-1", "version": 2}


def test_what_is_bound_to_the_context_is_on_every_line() -> None:
    _, lines = run(
        "logs.configure()\nstructlog.contextvars.bind_contextvars(rollout='r1')\nlog.info('a')\nlog.info('b')"
    )
    assert [line["rollout"] for line in lines] == ["r1", "r1"]


@pytest.mark.parametrize(("level", "events"), [("debug", ["d", "i", "w"]), ("info", ["i", "w"]), ("warning", ["w"])])
def test_lines_below_the_level_are_not_written(level: str, events: list[str]) -> None:
    _, lines = run(f"logs.configure({level!r})\nlog.debug('d')\nlog.info('i')\nlog.warning('w')")
    assert [line["event"] for line in lines] == events


def test_an_exception_is_written_with_its_traceback_in_the_same_line() -> None:
    _, lines = run("logs.configure()\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    log.exception('failed')")
    assert lines[0]["event"] == "failed"
    assert "ZeroDivisionError: division by zero" in lines[0]["exception"]


def test_other_libraries_lines_look_the_same_and_only_their_warnings_are_written() -> None:
    _, lines = run(
        "logs.configure('debug')\nlibrary = logging.getLogger('lib')\nlibrary.info('chatter')\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    library.exception('broke %s', 'off')"
    )
    (line,) = lines
    assert (line["event"], line["level"], line["logger"]) == ("broke off", "error", "lib")
    assert "ZeroDivisionError" in line["exception"]


def test_python_s_warnings_are_lines_too() -> None:
    _, lines = run("logs.configure()\nwarnings.warn('old ways')")
    assert "old ways" in lines[0]["event"]


def test_what_json_does_not_know_is_written_all_the_same() -> None:
    _, lines = run("logs.configure()\nlog.info('odd', digest=b'\\x00', kind=object)")
    assert lines[0]["digest"] == "b'\\x00'"
