"""Results by HTTP to a real server that takes them, refuses them, is slow or away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
from aiohttp import web

from edge.inference import sinks, webhook
from edge.inference.webhook import TRIES, Webhook
from edge.uplink.entities import NewBatch
from protos.kit import columns
from protos.kit.columns import Results
from simulators.ports import free_port
from tests.waiting import eventually


class Receiver:
    """Answers by `answers`, the last for ever; 0: not at all. taken: frames of each request that it took."""

    def __init__(self, *answers: int) -> None:
        self.port = free_port()
        self.asked = 0
        self.taken: list[list[int]] = []
        self.tokens: set[str | None] = set()
        self._answers = answers

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/results"

    @asynccontextmanager
    async def there(self) -> AsyncIterator[None]:
        application = web.Application()
        application.router.add_post("/results", self._take)
        runner = web.AppRunner(application, shutdown_timeout=0.01)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        try:
            yield
        finally:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        self.tokens.add(request.headers.get("Authorization"))
        status = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        if status == 0:
            await asyncio.sleep(3600)
        body = await request.json()
        assert body["device"] == "edge-1"
        if status == 200:
            self.taken.append([result["frame"] for result in body["results"]])
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status == 302 else {})


def batch(first: int, count: int = 2) -> NewBatch:
    results = Results(
        model="digits",
        version=3,
        manifest=bytes(32),
        source="cam",
        frame=np.arange(first, first + count, dtype=np.uint64),
        captured_us=np.full(count, 1000, np.int64),
        label=np.full(count, 7, np.uint16),
        confidence=np.full(count, 0.5, np.float32),
        latency_us=np.zeros(count, np.uint32),
    )
    return NewBatch(count, columns.encode(results), "cam", first + count - 1)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(webhook, "LONGEST_PAUSE_S", 0.01)


def play(
    receiver: Receiver, scene: Callable[[Webhook], Awaitable[None]], *, timeout_s: float = 5, token: str = ""
) -> None:
    async def main() -> None:
        hook = Webhook(receiver.url, token, "edge-1", timeout_s)
        running = asyncio.create_task(hook.run())
        await scene(hook)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())


def test_batches_arrive_in_order_with_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "ROWS_A_REQUEST", 3)
    receiver = Receiver(200)

    async def scene(hook: Webhook) -> None:
        async with receiver.there():
            for first, count in ((1, 2), (3, 4)):
                hook.sink.offer(batch(first, count))
            await eventually(lambda: len(receiver.taken) == 3)

    play(receiver, scene, token="secret")
    assert receiver.taken == [[1, 2], [3, 4, 5], [6]]
    assert receiver.tokens == {"Bearer secret"}


@pytest.mark.parametrize("answers", [(503, 200), (500, 429, 408, 200)])
def test_what_may_be_taken_later_is_sent_again(answers: tuple[int, ...]) -> None:
    receiver = Receiver(*answers)

    async def scene(hook: Webhook) -> None:
        async with receiver.there():
            hook.sink.offer(batch(1))
            await eventually(lambda: bool(receiver.taken))
        assert hook.sink.dropped == 0

    play(receiver, scene)
    assert receiver.taken == [[1, 2]]


@pytest.mark.parametrize("status", [400, 401, 404, 413, 302])
def test_what_will_never_be_taken_is_lost_at_once_and_counted(status: int) -> None:
    receiver = Receiver(status, 200)

    async def scene(hook: Webhook) -> None:
        async with receiver.there():
            hook.sink.offer(batch(1))
            hook.sink.offer(batch(3))
            await eventually(lambda: bool(receiver.taken))
        assert hook.sink.dropped == 1

    play(receiver, scene)
    assert receiver.taken == [[3, 4]]


def test_a_receiver_that_stays_broken_costs_a_batch_after_some_tries() -> None:
    receiver = Receiver(*[500] * TRIES, 200)

    async def scene(hook: Webhook) -> None:
        async with receiver.there():
            hook.sink.offer(batch(1))
            hook.sink.offer(batch(3))
            await eventually(lambda: bool(receiver.taken))
        assert hook.sink.dropped == 1

    play(receiver, scene)
    assert receiver.taken == [[3, 4]]
    assert receiver.asked == TRIES + 1


def test_a_receiver_that_never_answers_is_not_waited_for() -> None:
    receiver = Receiver(0, 200)

    async def scene(hook: Webhook) -> None:
        async with receiver.there():
            hook.sink.offer(batch(1))
            await eventually(lambda: bool(receiver.taken))

    play(receiver, scene, timeout_s=0.1)
    assert receiver.taken == [[1, 2]]


def test_a_receiver_that_comes_back_gets_what_was_kept_and_the_oldest_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "TRIES", 100_000)
    receiver, more = Receiver(200), 10

    async def scene(hook: Webhook) -> None:
        hook.sink.offer(batch(1))
        await asyncio.sleep(0.05)  # it is being sent, and waits for the receiver
        for place in range(sinks.WAITING + more):
            hook.sink.offer(batch(3 + 2 * place))
        async with receiver.there():
            await eventually(lambda: len(receiver.taken) == sinks.WAITING + 1)
        assert hook.sink.dropped == more

    play(receiver, scene)
    assert receiver.taken[0] == [1, 2]
    assert receiver.taken[1] == [3 + 2 * more, 4 + 2 * more]
