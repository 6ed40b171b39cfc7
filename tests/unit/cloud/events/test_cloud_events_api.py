"""Events are found again: by device, kind, severity and time, page after page, over HTTP and by the command."""

from __future__ import annotations

import itertools
import json
from datetime import datetime
from functools import partial
from typing import Any

import pytest
from click.testing import CliRunner
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cloud.cli import littoral
from cloud.events import commands
from cloud.events.entities import Event, Severity
from cloud.events.routes import router
from cloud.events.service import Events
from cloud.foundation.arriving import Arrived
from cloud.foundation.client import Api
from cloud.foundation.database import Database

MINUTE_MS = 60_000
NOW_MS = 1_800_000_000_000


class Site:
    """Events that devices told of."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.events = Events(database)
        self._seq = itertools.count(1)
        app = FastAPI()
        app.include_router(router(self.events))
        self.http = TestClient(app)

    def arrive(
        self,
        text: str,
        *,
        device: str = "edge-1",
        at_ms: int = NOW_MS,
        kind: str = "a.b",
        severity: Severity = Severity.INFO,
    ) -> None:
        event = Event(at_ms - 5, kind, severity, "", "", 0, text, 1)
        with self.database.transaction() as transaction:
            self.events.write(transaction, [Arrived(device, 1, next(self._seq), [event])], at_ms)

    def texts(self, **asked: object) -> list[str]:
        return [one["text"] for one in self.page(**asked)["events"]]

    def page(self, **asked: object) -> dict[str, Any]:
        named = {name.rstrip("_"): value for name, value in asked.items()}
        answer = self.http.get("/api/v1/events", params=named)  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        page: dict[str, Any] = answer.json()
        return page


@pytest.fixture
def site(database: Database) -> Site:
    return Site(database)


def test_every_column_reaches_the_answer(site: Site) -> None:
    event = Event(7, "update.refused", Severity.ERROR, "audio", "sounds", 3, "wrong hardware", 2)
    with site.database.transaction() as transaction:
        site.events.write(transaction, [Arrived("edge-1", 4, 9, [event])], NOW_MS)
    assert site.page() == {
        "events": [
            {
                "id": "4-9",
                "device": "edge-1",
                "happened_ms": 7,
                "received_ms": NOW_MS,
                "kind": "update.refused",
                "severity": "error",
                "slot": "audio",
                "model": "sounds",
                "version": 3,
                "text": "wrong hardware",
                "times": 2,
            }
        ],
        "next": None,
    }


def test_what_an_event_is_not_of_is_null(site: Site) -> None:
    site.arrive("started")
    (event,) = site.page()["events"]
    assert (event["slot"], event["model"], event["version"]) == (None, None, None)


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_page_after_page_every_event_comes_once_and_in_order(site: Site, order: str) -> None:
    for number in range(25):  # several at a time have the same time of receipt
        site.arrive(str(number), at_ms=NOW_MS + number // 4, device=f"edge-{number % 2}")
    found, cursor = [], {}
    while True:
        page = site.page(limit=7, order=order, **cursor)
        found += [one["text"] for one in page["events"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    expected = [str(number) for number in range(25)]
    assert found == (expected if order == "oldest" else expected[::-1])


def test_a_page_that_is_just_full_is_followed_by_an_empty_one(site: Site) -> None:
    for number in range(2):
        site.arrive(str(number))
    following = site.page(limit=2)["next"]
    assert site.page(limit=2, cursor=following) == {"events": [], "next": None}


def test_events_are_told_apart_by_device_kind_severity_and_time(site: Site) -> None:
    site.arrive("other", device="edge-2", at_ms=NOW_MS)
    site.arrive("committed", kind="update.committed", at_ms=NOW_MS + 1)
    site.arrive("refused", kind="update.refused", severity=Severity.ERROR, at_ms=NOW_MS + 2)
    site.arrive("alarm", kind="updates_.x", severity=Severity.WARNING, at_ms=NOW_MS + 3)
    assert site.texts(device="edge-2") == ["other"]
    assert site.texts(kind="update.refused") == ["refused"]
    assert site.texts(kind="update") == ["refused", "committed"]
    assert site.texts(kind="u_date") == []
    assert site.texts(severity="warning") == ["alarm", "refused"]
    assert site.texts(severity="error") == ["refused"]
    assert site.texts(from_="2027-01-15T08:00:00.001Z", to="2027-01-15T08:00:00.003Z") == ["refused", "committed"]


@pytest.mark.parametrize(
    "asked",
    [
        {"cursor": "nonsense"},
        {"cursor": "WzFd"},
        {"severity": "fatal"},
        {"limit": 1001},
        {"order": "best"},
        {"device": "a\0"},
        {"kind": "\0"},
    ],
)
def test_what_is_asked_wrongly_is_refused(site: Site, asked: dict[str, Any]) -> None:
    assert site.http.get("/api/v1/events", params=asked).status_code == 422


@pytest.fixture
def api(site: Site, monkeypatch: pytest.MonkeyPatch) -> Api:
    """The API as the commands see it, without a server between."""

    def get(_: Api, path: str, params: dict[str, Any] | None = None, patience_s: float = 0) -> Any:  # noqa: ARG001
        answer = site.http.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    monkeypatch.setattr(Api, "get", get)
    return Api("http://test")


@pytest.mark.usefixtures("api")
def test_the_command_draws_a_table_and_prints_one_document(site: Site) -> None:
    site.arrive("disk full", severity=Severity.ERROR)
    shown = CliRunner().invoke(littoral, ["events", "list"])
    assert shown.exit_code == 0, shown.output
    assert "disk full" in shown.output
    document = json.loads(CliRunner().invoke(littoral, ["events", "list", "--json"]).output)
    assert document == site.page()


@pytest.mark.usefixtures("api")
def test_the_command_asks_for_what_its_options_say(site: Site) -> None:
    site.arrive("old", at_ms=NOW_MS - MINUTE_MS)
    site.arrive("new", severity=Severity.WARNING)
    site.arrive("other", device="edge-2", severity=Severity.WARNING)
    options = ["--device", "edge-1", "--severity", "warning", "--kind", "a", "--since", "2027-01-15T08:00", "--json"]
    shown = CliRunner().invoke(littoral, ["events", "list", *options])
    assert [one["text"] for one in json.loads(shown.output)["events"]] == ["new"]


def test_a_time_that_is_none_is_refused_with_how_to_write_one() -> None:
    shown = CliRunner().invoke(littoral, ["events", "list", "--since", "yesterday"])
    assert shown.exit_code == 2
    assert "write 30m, 2h, 7d" in shown.output


Turns = list[list[tuple[str, int]]]


def following(site: Site, api: Api, monkeypatch: pytest.MonkeyPatch, turns: Turns) -> list[str]:
    """What is told after the last two, while between one look and the next these arrive, with their time of receipt."""
    left = iter(turns)

    class Over(Exception):
        """No more turns."""

    def sleep(_: float) -> None:
        turn = next(left, None)
        if turn is None:
            raise Over
        for text, at_ms in turn:
            site.arrive(text, at_ms=at_ms)

    monkeypatch.setattr(commands.time, "sleep", sleep)
    told: list[str] = []
    with pytest.raises(Over):
        told.extend(one["text"] for one in commands.following(api, {}, 2))  # what came stays when it is over
    return told


def test_who_follows_is_told_the_last_ones_and_then_each_once_oldest_first(
    site: Site, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        site.arrive(f"before {number}", at_ms=NOW_MS + number)
    later = NOW_MS + 10 * MINUTE_MS
    turns = [[("one", NOW_MS + 10)], [], [("two", later), ("three", later + 1)], [("four", later + 1)]]
    assert following(site, api, monkeypatch, turns) == ["before 3", "before 4", "one", "two", "three", "four"]


def test_who_follows_misses_none_whose_transaction_ended_after_a_later_ones(
    site: Site, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [[("late", NOW_MS + MINUTE_MS)], [("earlier, seen later", NOW_MS + 1)], [("last", NOW_MS + MINUTE_MS)]]
    assert following(site, api, monkeypatch, turns) == ["late", "earlier, seen later", "last"]


def test_who_follows_what_is_rare_does_not_read_all_that_ever_was_each_time(
    site: Site, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_ms: list[int] = []
    get = Api.get

    def asked(self: Api, path: str, params: dict[str, Any]) -> Any:
        if "from" in params:
            from_ms.append(round(datetime.fromisoformat(params["from"]).timestamp() * 1000))
        return get(self, path, params)

    monkeypatch.setattr(Api, "get", asked)
    turns = iter([NOW_MS + 10 * MINUTE_MS, NOW_MS + 20 * MINUTE_MS])

    def sleep(_: float) -> None:
        if (at_ms := next(turns, None)) is not None:
            site.arrive("common", at_ms=at_ms)
        else:
            site.arrive("rare", at_ms=NOW_MS + 20 * MINUTE_MS + 1, severity=Severity.ERROR)

    monkeypatch.setattr(commands.time, "sleep", sleep)
    site.arrive("common")
    (told,) = itertools.islice(commands.following(api, {"severity": "error"}, 5), 1)
    assert told["text"] == "rare"
    assert from_ms == [NOW_MS + minutes * MINUTE_MS for minutes in (-1, -1, 9, 19)]


def test_who_follows_waits_for_an_api_that_fails_and_misses_and_repeats_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api = Api("http://test")
    api._client = TestClient(site.http.app, raise_server_exceptions=False)
    site.arrive("one")

    def rename(table: str, name: str) -> None:
        with site.database.transaction() as transaction:
            transaction.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {name}")

    left = iter((partial(rename, "events", "hidden"), lambda: None, partial(rename, "hidden", "events")))

    def sleep(_: float) -> None:
        if (turn := next(left, None)) is None:
            site.arrive("two")
        else:
            turn()

    monkeypatch.setattr(commands.time, "sleep", sleep)
    told = [one["text"] for one in itertools.islice(commands.following(api, {}, 5), 2)]
    assert told == ["one", "two"]
    assert capsys.readouterr().err.count("failed (500)") == 1


def test_who_follows_with_a_wrong_address_is_told_at_once() -> None:
    shown = CliRunner().invoke(littoral, ["events", "list", "--follow", "--since", "1h", "--api", "http://127.0.0.1:9"])
    assert shown.exit_code == 1
    assert "no API answers" in shown.output
