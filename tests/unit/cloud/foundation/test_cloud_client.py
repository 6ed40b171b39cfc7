"""What a person reads when the API cannot be reached, refuses, or fails."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import click
import pytest

from cloud.foundation.client import Api

ANSWERS = {
    "/fine": (200, json.dumps({"answer": 42})),
    "/empty": (204, ""),
    "/unknown": (404, json.dumps({"detail": "no model 'digits' is registered"})),
    "/wrong": (422, json.dumps({"detail": [{"loc": ["body", "waves", 0], "msg": "not a wave"}]})),
    "/silent": (409, json.dumps({})),
    "/broken": (500, "Internal Server Error"),
    "/html": (200, "<html>"),
}


class Handler(BaseHTTPRequestHandler):
    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        said = {"/echo": body.decode(), "/shown": json.dumps(self.headers.get("Authorization"))}
        status, text = (200, said[self.path]) if self.path in said else ANSWERS[self.path]
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST = do_DELETE = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_answer_is_its_json(address: str) -> None:
    assert Api(address).get("/fine") == {"answer": 42}


def test_an_empty_answer_is_none(address: str) -> None:
    assert Api(address).delete("/empty") is None


def test_what_is_posted_arrives_as_json(address: str) -> None:
    assert Api(address).post("/echo", {"model": "digits"}) == {"model": "digits"}


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/unknown", "no model 'digits' is registered"),
        ("/wrong", "waves.0: not a wave"),
        ("/silent", r"refused it \(409\)"),
        ("/broken", r"failed \(500\): its log says why"),
        ("/html", "does not answer in JSON"),
    ],
)
def test_a_failure_is_one_sentence(address: str, path: str, sentence: str) -> None:
    with pytest.raises(click.ClickException, match=sentence):
        Api(address).get(path)


def test_an_api_that_is_not_there_is_named_with_what_to_do() -> None:
    with pytest.raises(click.ClickException, match=r"127\.0\.0\.1:9: is `littoral serve` running"):
        Api("http://127.0.0.1:9").get("/fine")


def test_a_proxy_for_the_outside_is_not_asked_for_this_machine(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert Api(address).get("/fine") == {"answer": 42}


def test_the_token_of_the_environment_is_shown(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITTORAL_API_TOKEN", "right\n")
    assert Api(address).get("/shown") == "Bearer right"
    monkeypatch.delenv("LITTORAL_API_TOKEN")
    assert Api(address).get("/shown") is None
