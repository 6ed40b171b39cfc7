"""The sensors against agents and an API of a few lines, over real gRPC and real HTTP, with faults to switch on."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import numpy as np
import pytest

from protos.v1 import frames_pb2, frames_pb2_grpc
from simulators import sensors
from simulators.reel import HeldOut, Reel

IMAGES = np.arange(50, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
LABELS = np.arange(50) % 10
REEL = Reel.of("edge-1", HeldOut(IMAGES, LABELS))
FAST = sensors.Pace(rate=10_000, batch=10, count=100)


class AgentDouble(frames_pb2_grpc.FramesServicer):
    """Takes frames like an agent: the watermark is where it stands. `cut_after`: cut the stream once there.

    tell_at: set `told` once it has got that many frames. swallow: take frames and never acknowledge them.
    """

    def __init__(
        self, watermark: int = 0, cut_after: int = 0, problem_at: int = 0, tell_at: int = 0, *, swallow: bool = False
    ) -> None:
        self.watermark = watermark
        self.sessions = 0
        self.pictures: dict[int, int] = {}
        self.received = 0
        self.told = asyncio.Event()
        self._tell_at = tell_at
        self._cut_after = cut_after
        self._problem_at = problem_at
        self._swallow = swallow

    async def Feed(  # noqa: N802 - the contract's name
        self, messages: AsyncIterator[frames_pb2.FramesMessage], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[frames_pb2.FramesReply]:
        self.sessions += 1
        hello = await anext(aiter(messages))
        assert hello.hello.source == sensors.SOURCE
        yield frames_pb2.FramesReply(watermark=self.watermark)
        async for message in messages:
            self.received += message.batch.count
            if self._tell_at and self.received >= self._tell_at:
                self.told.set()
            if self._swallow:
                continue
            if self._problem_at and message.batch.first_frame >= self._problem_at:
                self._problem_at = 0
                yield frames_pb2.FramesReply(watermark=self.watermark, problem="no room")
                continue
            if message.batch.first_frame != self.watermark + 1:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a gap")
            self._take(message.batch)
            if self._cut_after and self.watermark >= self._cut_after:
                self._cut_after = 0
                await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            yield frames_pb2.FramesReply(watermark=self.watermark)

    def _take(self, batch: frames_pb2.FrameBatch) -> None:
        pixels = np.frombuffer(batch.pixels, np.uint8).reshape(batch.count, -1)
        assert len(batch.captured_offset_us) == 4 * batch.count
        for place in range(batch.count):
            self.pictures[batch.first_frame + place] = int(pixels[place, 0])
        self.watermark = batch.first_frame + batch.count - 1


class ApiDouble(BaseHTTPRequestHandler):
    """Takes truths; `refusals`: how many requests it answers with an error first."""

    truths: dict[int, int]
    refusals: int

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        refused, type(self).refusals = self.refusals > 0, max(0, self.refusals - 1)
        if not refused:
            assert (self.path, body["device"], body["source"]) == ("/api/v1/truths", "edge-1", sensors.SOURCE)
            self.truths.update({body["first_frame"] + place: label for place, label in enumerate(body["labels"])})
        self.send_response(503 if refused else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """The test's output stays readable."""


@contextmanager
def api(refusals: int = 0) -> Iterator[tuple[str, dict[int, int]]]:
    handler = type("Handler", (ApiDouble,), {"truths": {}, "refusals": refusals})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", handler.truths
        finally:
            server.shutdown()
            thread.join()


def feed(folder: Path, agent: AgentDouble, address: str, pace: sensors.Pace = FAST) -> sensors.Tally:
    """Run one sensor against `agent`, until its count is reached or, without one, until the agent has told."""

    async def scene() -> list[sensors.Tally]:
        server = grpc.aio.server()
        frames_pb2_grpc.add_FramesServicer_to_server(agent, server)
        socket = folder / "frames.sock"
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        stop = asyncio.Event()
        run = asyncio.create_task(sensors.run({"edge-1": socket}, {"edge-1": REEL}, pace, address, stop))
        if not pace.count:
            await agent.told.wait()
            stop.set()
        try:
            return await run
        finally:
            await server.stop(0)

    (tally,) = asyncio.run(scene())
    return tally


def assert_right(agent: AgentDouble, truths: dict[int, int], first: int, last: int) -> None:
    assert sorted(agent.pictures) == list(range(first, last + 1))
    assert all(picture == int(REEL.frames(frame, 1)[0, 0, 0]) for frame, picture in agent.pictures.items())
    assert truths == {frame: REEL.truth(frame, 1)[0] for frame in range(1, last + 1)}


def test_every_frame_is_handed_over_once_and_its_truth_posted(tmp_path: Path) -> None:
    agent = AgentDouble()
    with api() as (address, truths):
        tally = feed(tmp_path, agent, address)
    assert tally == sensors.Tally("edge-1", sent=100, acknowledged=100, truths=100)
    assert_right(agent, truths, 1, 100)


def test_a_new_sensor_goes_on_from_the_agents_watermark_and_posts_the_earlier_truths_again(tmp_path: Path) -> None:
    agent = AgentDouble(watermark=63)
    with api() as (address, truths):
        assert feed(tmp_path, agent, address).complete
    assert_right(agent, truths, 64, 100)


def test_nothing_is_sent_when_the_count_is_reached_already(tmp_path: Path) -> None:
    agent = AgentDouble(watermark=120)
    with api() as (address, truths):
        assert feed(tmp_path, agent, address) == sensors.Tally("edge-1", 120, 120, 120)
    assert (agent.pictures, len(truths)) == ({}, 120)


def test_a_cut_stream_goes_on_from_the_agents_watermark(tmp_path: Path) -> None:
    agent = AgentDouble(cut_after=40)
    with api() as (address, truths):
        assert feed(tmp_path, agent, address).complete
    assert agent.sessions == 2
    assert_right(agent, truths, 1, 100)


def test_a_batch_that_the_agent_did_not_take_is_handed_over_again(tmp_path: Path) -> None:
    agent = AgentDouble(problem_at=41)
    with api() as (address, truths):
        assert feed(tmp_path, agent, address).complete
    assert_right(agent, truths, 1, 100)


def test_truths_are_posted_until_the_api_takes_them(tmp_path: Path) -> None:
    agent = AgentDouble()
    with api(refusals=2) as (address, truths):
        assert feed(tmp_path, agent, address).complete
    assert_right(agent, truths, 1, 100)


def test_asked_to_stop_a_sensor_settles_what_it_handed_over(tmp_path: Path) -> None:
    agent = AgentDouble(tell_at=50)
    with api() as (address, truths):
        tally = feed(tmp_path, agent, address, sensors.Pace(rate=2000, batch=10, count=0))
    assert tally.complete
    assert tally.sent >= 50
    assert_right(agent, truths, 1, tally.sent)


def test_an_agent_that_acknowledges_nothing_is_waited_for_no_longer_than_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensors, "FINISH_S", 0.2)
    agent = AgentDouble(tell_at=20, swallow=True)
    with api() as (address, truths):
        tally = feed(tmp_path, agent, address, sensors.Pace(rate=2000, batch=10, count=0))
    assert tally.sent >= 20
    assert (tally.complete, tally.acknowledged, truths) == (False, 0, {})
