"""Tables for people, JSON for programs."""

from __future__ import annotations

import json

import pytest

from cloud.foundation.show import emit, table


def test_json_is_the_only_thing_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    emit([{"name": 1}], as_json=True, render=lambda _: "a table")
    assert json.loads(capsys.readouterr().out) == [{"name": 1}]


def test_people_get_what_was_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    emit([("edge-1", 5)], as_json=False, render=lambda rows: table("Devices", ["device", "version"], rows))
    text = capsys.readouterr().out
    assert "Devices" in text
    assert "edge-1" in text


def test_a_cell_without_a_value_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    emit([("edge-1", None)], as_json=False, render=lambda rows: table("", ["device", "version"], rows))
    assert "None" not in capsys.readouterr().out


def test_a_long_line_stays_whole_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    emit([("f" * 64, "d" * 64)], as_json=False, render=lambda rows: table("", ["manifest", "digest"], rows))
    assert "d" * 64 in capsys.readouterr().out
