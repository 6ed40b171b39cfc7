"""What of the HTTP API belongs to no room."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from cloud.routes import MAX_BODY_BYTES, BodyLimit, create_api


def client(**parts: bool) -> TestClient:
    echo = APIRouter()

    @echo.post("/echo")
    def _(body: dict[str, str]) -> dict[str, str]:
        return body

    return TestClient(create_api([echo], lambda: parts))


def test_a_process_that_answers_is_healthy_even_if_it_is_not_ready() -> None:
    assert client(database=False).get("/healthz").status_code == 200


def test_it_is_ready_when_every_part_is() -> None:
    answer = client(database=True, broker=True).get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"database": True, "broker": True})


def test_it_is_not_ready_while_one_part_is_not() -> None:
    answer = client(database=True, broker=False).get("/readyz")
    assert (answer.status_code, answer.json()["broker"]) == (503, False)


@pytest.mark.parametrize("address", ["/samples/a%00b", "/samples?device=a%00b", "/samples?a%00b"])
def test_an_address_with_a_nul_is_refused_before_a_database_is_asked(address: str) -> None:
    answer = client().get(address)
    assert answer.status_code == 422
    assert "NUL" in answer.json()["detail"]


def test_a_body_within_the_limit_arrives_whole() -> None:
    body = {"text": "x" * (MAX_BODY_BYTES - 100)}
    assert client().post("/echo", json=body).json() == body


def test_a_body_over_the_limit_is_refused_before_it_is_read() -> None:
    answer = client().post("/echo", content=b"x" * (MAX_BODY_BYTES + 1))
    assert answer.status_code == 413
    assert "send less at a time" in answer.json()["detail"]


def guarded() -> TestClient:
    routes = APIRouter()

    @routes.api_route("/echo", methods=["GET", "POST", "PUT", "DELETE"])
    @routes.get("/registrations/one")
    def _() -> dict[str, str]:
        return {"done": "yes"}

    return TestClient(create_api([routes], dict, streamed=["/registrations"], token="right"))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_what_changes_something_must_show_the_token_where_there_is_one(method: str) -> None:
    api = guarded()
    assert api.request(method, "/echo", headers={"Authorization": "Bearer right"}).status_code == 200
    for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "right"}, {"Authorization": "Bearer "}):
        answer = api.request(method, "/echo", headers=wrong)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert "LITTORAL_API_TOKEN" in answer.json()["detail"]


def test_reading_needs_no_token_but_where_it_comes_before_a_change() -> None:
    api = guarded()
    assert api.get("/echo").status_code == api.get("/healthz").status_code == api.get("/metrics").status_code == 200
    assert api.get("/registrations/one").status_code == 401
    assert api.get("/registrations/one", headers={"Authorization": "Bearer right"}).status_code == 200


def test_without_a_token_anybody_may_change_something() -> None:
    assert client().post("/echo", json={}).status_code == 200


def test_a_body_that_does_not_tell_its_size_is_refused_once_it_is_over_the_limit() -> None:
    def without_end() -> Iterator[bytes]:
        while True:
            yield b"x" * 65536

    parts = iter(without_end())
    taken: list[int] = []

    async def receive() -> Message:
        taken.append(65536)
        return {"type": "http.request", "body": next(parts), "more_body": True}

    sent = asyncio.run(request(receive))
    assert sent[0]["status"] == 413
    assert sum(taken) <= MAX_BODY_BYTES + 65536


def test_a_client_that_leaves_in_the_middle_of_its_body_reaches_no_route() -> None:
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Message:
        return next(messages)

    assert asyncio.run(request(receive)) == []


async def request(receive: Receive) -> list[Message]:
    """What is sent in answer to a request with this body."""
    sent: list[Message] = []

    async def app(_: Scope, __: Receive, ___: Send) -> None:
        raise AssertionError("the request reached the application")

    async def send(message: Message) -> None:
        sent.append(message)

    await BodyLimit(app, MAX_BODY_BYTES)({"type": "http", "path": "/", "headers": []}, receive, send)
    return sent


def test_the_description_of_the_api_names_the_product() -> None:
    info = client().get("/openapi.json").json()["info"]
    assert info["title"] == "Littoral"
    assert info["version"]
