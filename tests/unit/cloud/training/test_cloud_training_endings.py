"""How a worker's process ends, and the exit code and the reason that the Job gets for it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

from cloud.training.entities import Ending
from cloud.training.overseer import Patience, ended, silent
from cloud.training.worker_commands import train_worker


def test_a_registered_model_is_done_however_the_process_ends_afterwards() -> None:
    told = {"event": "registered", "model": "digits", "version": 3}
    assert [ended(code, told).code for code in (0, 75, -signal.SIGABRT)] == [Ending.DONE] * 3
    assert silent(told, 30).code is Ending.DONE
    assert ended(-signal.SIGKILL, told).told == silent(told, 30).told == told


def test_a_failure_that_was_told_has_its_code_and_reason() -> None:
    end = ended(75, {"event": "failed", "code": 75, "reason": "another worker was lost"})
    assert (end.code, end.told["reason"]) == (Ending.PEER_LOST, "another worker was lost")


@pytest.mark.parametrize(
    ("returncode", "ending", "named"),
    [
        (-signal.SIGKILL, Ending.KILLED, "was ended by SIGKILL: had it more memory"),
        (-signal.SIGSEGV, Ending.FAILED, "was ended by SIGSEGV and said nothing"),
        (1, Ending.FAILED, "ended with exit code 1 and said nothing"),
        (0, Ending.FAILED, "ended with exit code 0 and said nothing"),
    ],
)
def test_an_end_without_a_word_is_a_failure_that_says_how_it_was(returncode: int, ending: Ending, named: str) -> None:
    end = ended(returncode, {"event": "epoch", "epoch": 1})
    assert end.code is ending
    assert named in end.told["reason"]


def test_silence_before_all_are_there_is_told_from_silence_afterwards() -> None:
    assert silent({"event": ""}, 5).code is Ending.UNAVAILABLE
    assert {
        silent({"event": event}, 5).code for event in ("started", "resumed", "beat", "epoch", "judging", "waiting")
    } == {Ending.PEER_LOST}


def test_judging_may_take_longer_than_a_step_and_taking_leave_not_long() -> None:
    patience = Patience(together=7, training=2, judging=9)
    assert [patience.after(event) for event in ("", "started", "beat", "epoch")] == [7, 2, 2, 2]
    assert [patience.after(event) for event in ("judging", "waiting")] == [9, 9]
    assert patience.after("registered") == 30


def test_a_reason_fits_into_the_termination_message() -> None:
    end = ended(70, {"event": "failed", "code": 70, "reason": "x" * 10_000})
    assert len(json.dumps(end.told)) < 4096


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--run", "a", "--workers", "2"], "need an address with {index}"),
        (["--run", "a/b"], "letters, digits"),
        (["--run", "a", "--model", "A/b"], "is not a name"),
        ([], "--run"),
    ],
)
def test_wrong_usage_is_exit_code_2_with_the_reason(arguments: list[str], named: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(train_worker, [*arguments, "--termination-log", str(tmp_path / "log")])
    assert (result.exit_code, result.stdout) == (2, "")
    assert named in result.output


def test_help_shows_an_example_and_the_exit_codes() -> None:
    shown = CliRunner().invoke(train_worker, ["--help"]).output
    assert "littoral train-worker --run" in shown
    assert "75 another worker was lost" in " ".join(shown.split())
