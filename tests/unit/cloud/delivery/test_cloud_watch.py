"""What waits to be shown is bounded; what comes beyond it is counted."""

from __future__ import annotations

import asyncio

import pytest

from cloud.delivery import watch
from cloud.delivery.crossings import Crossing
from cloud.delivery.watch import Watch
from protos.kit.link import Address


def came(sizes: list[int]) -> Watch:
    onlooker = Watch(Address("127.0.0.1", 1), "#")
    for number, size in enumerate(sizes):
        onlooker._keep(Crossing(f"t/{number}", bytes(size), 1, retained=False))
    return onlooker


def taken(onlooker: Watch) -> list[str]:
    return [seen.crossing.topic for seen in asyncio.run(onlooker.take())]


def test_what_comes_faster_than_it_is_taken_is_counted_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MAX_WAITING", 2)
    onlooker = came([1] * 5)
    assert (taken(onlooker), onlooker.missed) == (["t/0", "t/1"], 3)


def test_bytes_that_wait_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MAX_WAITING_BYTES", 100)
    onlooker = came([60, 60, 40])
    assert (taken(onlooker), onlooker.missed) == (["t/0", "t/2"], 1)


def test_what_was_taken_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MAX_WAITING_BYTES", 100)
    onlooker = came([100])
    taken(onlooker)
    onlooker._keep(Crossing("t/new", bytes(100), 1, retained=False))
    assert (taken(onlooker), onlooker.missed) == (["t/new"], 0)
