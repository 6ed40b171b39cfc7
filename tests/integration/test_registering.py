"""A training hands its model to the cloud's API over a network that loses answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud.foundation.database import Database
from cloud.foundation.settings import CloudSettings
from cloud.http_server import HttpServer, listening
from cloud.registry import registration_routes
from cloud.registry.blobs import Blobs
from cloud.registry.service import Registry
from cloud.routes import create_api
from cloud.training.entities import Refused, Unavailable
from cloud.training.registering import Registrations
from protos.kit import envelope
from protos.kit.keys import KeysFailed
from protos.v1.manifest_pb2 import Manifest, Variant
from simulators.ports import free_port
from simulators.wire import Wire

KEY = Ed25519PrivateKey.generate()
FILES = {"int8": random.Random(1).randbytes(200_000), "float32": random.Random(2).randbytes(3_000_000)}
DRAFT = Manifest(model="digits", variants=[Variant(name=name) for name in FILES])


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    settings = CloudSettings(dir=tmp_path)
    database = Database(settings.database_url)
    database.create()
    return Registry(database, Blobs(settings.blobs), lambda purpose, payload: envelope.sign(purpose, payload, KEY))


class Answers:
    """The API, of which the first answers go wrong as `trouble` makes them."""

    def __init__(self, api: ASGIApp, times: int, trouble: Callable[[Send], Any]) -> None:
        self._api, self._left, self._trouble = api, times, trouble

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if self._left and message["type"] == "http.response.start":
                self._left -= 1
                await self._trouble(send)
            await send(message)

        await self._api(scope, receive, answer)


def api_of(registry: Registry, token: str = "") -> ASGIApp:
    def check(model: str, _now_ms: int) -> None:
        if model == "secret":
            raise KeysFailed("model 'secret' has no role yet")

    routes = [registration_routes.router(registry, check)]
    return create_api(routes, dict, streamed=[registration_routes.PREFIX], token=token)


@asynccontextmanager
async def served(api: Any, port: int = 0) -> AsyncIterator[int]:
    with listening("127.0.0.1", port) as listener:
        server = HttpServer(api)
        serving = asyncio.create_task(server.serve([listener]))
        await server.accepting.wait()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


def registrations(port: int, patience_s: float = 60) -> Registrations:
    return Registrations(f"http://127.0.0.1:{port}", patience_s)


def test_an_answer_that_is_lost_costs_a_repetition_and_registers_once(registry: Registry) -> None:
    async def scenario() -> None:
        wire = Wire(lambda: asyncio.open_connection("127.0.0.1", port))

        async def cut(_: Send) -> None:
            wire.cut()

        async with served(Answers(api_of(registry), 2, cut)) as port, wire.serving() as way:
            told = await asyncio.to_thread(registrations(way).register, "run-1", DRAFT, FILES)
            assert told["version"] == 1
            assert await asyncio.to_thread(registrations(way).of, "run-1", "digits") == told
        assert len(registry.list("digits")) == 1
        for variant in registry.latest("digits").parsed().variants:
            assert registry.file(variant.artifact.digest) == FILES[variant.name]

    asyncio.run(scenario())


def test_an_api_that_fails_is_asked_again(registry: Registry) -> None:
    async def scenario() -> None:
        async def fail(_: Send) -> None:
            raise RuntimeError("the database is away")

        async with served(Answers(api_of(registry), 2, fail)) as port:
            assert (await asyncio.to_thread(registrations(port).register, "run-1", DRAFT, FILES))["version"] == 1

    asyncio.run(scenario())


def test_an_api_that_is_not_up_yet_is_waited_for(registry: Registry) -> None:
    async def scenario() -> None:
        port = free_port()
        waiting = asyncio.create_task(asyncio.to_thread(registrations(port).of, "run-1", "digits"))
        await asyncio.sleep(0.1)
        async with served(api_of(registry), port):
            assert await waiting is None

    asyncio.run(scenario())


def test_an_api_that_never_comes_is_given_up() -> None:
    async def scenario() -> None:
        with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:\d+ did not take it"):
            await asyncio.to_thread(registrations(free_port(), patience_s=0).of, "run-1", "digits")

    asyncio.run(scenario())


def test_what_the_api_refuses_is_not_sent_again(registry: Registry) -> None:
    async def scenario() -> None:
        async with served(api_of(registry)) as port:
            with pytest.raises(Refused, match="model 'secret' has no role yet"):
                await asyncio.to_thread(registrations(port).of, "run-1", "secret")
            bad = Manifest(model="a/b", variants=DRAFT.variants)
            with pytest.raises(Refused, match="'a/b' is not a name"):
                await asyncio.to_thread(registrations(port).register, "run-1", bad, FILES)

    asyncio.run(scenario())


def test_who_trains_shows_the_token_and_without_it_learns_so_before_the_training(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with served(api_of(registry, token="right")) as port:
            with pytest.raises(Refused, match=r"refused it \(401\): .*LITTORAL_API_TOKEN"):
                await asyncio.to_thread(registrations(port).of, "run-1", "digits")
            monkeypatch.setenv("LITTORAL_API_TOKEN", "right")
            found = await asyncio.to_thread(registrations(port).register, "run-1", DRAFT, FILES)
            assert found["version"] == 1

    asyncio.run(scenario())
