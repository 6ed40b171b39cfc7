"""Sources over the real Unix socket: what they are answered, and what they are refused."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from edge.inference.entities import Blueprint, Limits
from edge.inference.rpc import SocketUnusable, frames_server
from edge.inference.service import Inference
from edge.uplink.outbox import Outbox
from edge.uplink.rpc import Uplink
from protos.kit.columns import decode
from protos.v1.frames_pb2 import OVERLOAD_DROP_OLDEST, FrameBatch, FramesHello, FramesMessage, FramesReply
from protos.v1.frames_pb2_grpc import FramesStub
from protos.v1.uplink_pb2 import ResultBatch
from tests import tiny_models
from tests.integration.simulated_ingest import Faults, SimulatedIngest, listening
from tests.waiting import eventually

GOOD = tiny_models.int8(tiny_models.weights())


def blueprint(folder: Path) -> Blueprint:
    manifest = tiny_models.manifest({"int8": GOOD})
    file = folder / "model.tflite"
    file.write_bytes(GOOD)
    return Blueprint(file, manifest.variants[0], manifest.preprocessing, 1, b"\1" * 32, "tiny", 1)


def batch_of(first: int, count: int, /, **changes: Any) -> FramesMessage:
    frames = tiny_models.frames()[np.arange(first, first + count) % 4]
    fields: dict[str, Any] = {
        "first_frame": first,
        "count": count,
        "pixels": frames.tobytes(),
        "first_captured_us": 1_000_000,
        "captured_offset_us": np.arange(count, dtype="<u4").tobytes(),
    }
    return FramesMessage(batch=FrameBatch(**(fields | changes)))


@dataclass
class Agent:
    inference: Inference
    outbox: Outbox
    path: Path

    def frames(self) -> list[int]:
        return [int(f) for b in self.outbox.after(0, 100_000) for f in decode(b.payload, b.count).frame]


@asynccontextmanager
async def agent_in(folder: Path, *, with_model: bool = True) -> AsyncIterator[Agent]:
    outbox = Outbox.open(folder / "outbox.db", 1 << 30)
    inference = Inference(outbox, Limits(batch_frames=16))
    if with_model:
        await inference.use(blueprint(folder))
    running = asyncio.create_task(inference.run())
    try:
        async with frames_server(inference, folder / "frames.sock"):
            yield Agent(inference, outbox, folder / "frames.sock")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        outbox.close()


@asynccontextmanager
async def stream(agent: Agent, source: str | None = "cam", overload: int = 0) -> AsyncIterator[Any]:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"unix:{agent.path}", options=options) as channel:
        call = FramesStub(channel).Feed()
        if source is not None:
            await call.write(FramesMessage(hello=FramesHello(source=source, overload=overload)))
        yield call


async def until(call: Any, watermark: int) -> FramesReply:
    while (reply := await call.read()).watermark < watermark:
        assert isinstance(reply, FramesReply)
    return reply


async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        [reply async for reply in call]
    return refused.value.code(), refused.value.details() or ""


def play(folder: Path, scene: Callable[[Agent], Awaitable[None]], *, with_model: bool = True) -> None:
    async def main() -> None:
        async with agent_in(folder, with_model=with_model) as agent:
            await scene(agent)

    asyncio.run(main())


def test_a_source_is_told_where_to_start_and_how_far_its_frames_are_durable(tmp_path: Path) -> None:
    async def scene(agent: Agent) -> None:
        async with stream(agent) as call:
            assert (await call.read()).watermark == 0
            await call.write(batch_of(1, 40))
            assert not (await until(call, 40)).problem
            assert agent.frames() == list(range(1, 41))
        async with stream(agent) as call:
            assert (await call.read()).watermark == 40

    play(tmp_path, scene)


def test_a_source_that_has_ended_gets_its_last_acknowledgement(tmp_path: Path) -> None:
    async def scene(agent: Agent) -> None:
        async with stream(agent) as call:
            await call.write(batch_of(1, 40))
            await call.done_writing()
            replies = [reply async for reply in call]
            assert replies[-1].watermark == 40
            assert await call.code() is grpc.StatusCode.OK

    play(tmp_path, scene)


def test_a_source_that_cannot_wait_is_told_how_many_frames_it_lost(tmp_path: Path) -> None:
    async def scene(agent: Agent) -> None:
        async with stream(agent, overload=OVERLOAD_DROP_OLDEST) as call:
            for first in range(1, 10_001, 1000):
                await call.write(batch_of(first, 1000))  # nobody takes them: there is no model yet
            await eventually(lambda: agent.inference.dropped > 0)
            await agent.inference.use(blueprint(tmp_path))
            await call.done_writing()
            replies = [reply async for reply in call]
            assert replies[-1].watermark == 10_000
            assert len(agent.frames()) == 10_000 - replies[-1].dropped
            assert agent.frames()[-1] == 10_000

    play(tmp_path, scene, with_model=False)


def test_a_policy_that_this_agent_does_not_know_is_refused(tmp_path: Path) -> None:
    async def scene(agent: Agent) -> None:
        async with stream(agent, overload=9) as call:
            assert "overload is 9" in (await refusal(call))[1]

    play(tmp_path, scene)


def test_old_frames_are_answered_with_the_watermark(tmp_path: Path) -> None:
    async def scene(agent: Agent) -> None:
        async with stream(agent) as call:
            await call.write(batch_of(1, 40))
            await until(call, 40)
            await call.write(batch_of(5, 10))
            assert (await call.read()).watermark == 40
            assert agent.frames() == list(range(1, 41))

    play(tmp_path, scene)


def test_frames_that_do_not_fit_the_model_are_a_problem_and_the_stream_goes_on(tmp_path: Path) -> None:
    async def scene(agent: Agent) -> None:
        async with stream(agent) as call:
            await call.read()
            await call.write(batch_of(1, 4, pixels=b"x" * 36))
            reply = await call.read()
            assert reply.watermark == 0
            assert "frames of 9 bytes" in reply.problem
            await call.write(batch_of(1, 4))
            await until(call, 4)

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (batch_of(1, 4, count=0), "count is 0"),
        (batch_of(1, 4, count=5000), "count is 5000"),
        (batch_of(1, 4, first_frame=0), "first_frame is 0"),
        (batch_of(1, 4, pixels=b"xyz"), "pixels has 3 bytes"),
        (batch_of(1, 4, captured_offset_us=b""), "captured_offset_us has 0 bytes"),
        (FramesMessage(hello=FramesHello(source="cam")), "after the hello"),
    ],
)
@pytest.mark.parametrize("with_model", [True, False])
def test_a_message_that_breaks_the_contract_ends_the_stream(
    tmp_path: Path, message: FramesMessage, named: str, *, with_model: bool
) -> None:
    async def scene(agent: Agent) -> None:
        async with stream(agent) as call:
            await call.write(batch_of(1, 4))
            await call.write(message)
            code, details = await refusal(call)
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert named in details
        async with stream(agent) as call:  # the source may come again at once
            await call.read()

    play(tmp_path, scene, with_model=with_model)


@pytest.mark.parametrize("source", ["", "Camera", "a/b", "x" * 64])
def test_a_name_that_is_none_is_refused(tmp_path: Path, source: str) -> None:
    async def scene(agent: Agent) -> None:
        async with stream(agent, source) as call:
            code, details = await refusal(call)
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert "source" in details

    play(tmp_path, scene)


def test_a_stream_begins_with_the_hello(tmp_path: Path) -> None:
    async def scene(agent: Agent) -> None:
        async with stream(agent, source=None) as call:
            await call.write(batch_of(1, 4))
            assert (await refusal(call))[0] is grpc.StatusCode.INVALID_ARGUMENT

    play(tmp_path, scene)


def test_a_second_stream_of_a_source_is_refused_while_the_first_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.inference.service.PARTING_S", 0.05)

    async def scene(agent: Agent) -> None:
        async with stream(agent) as first:
            await first.read()
            async with stream(agent) as second:
                code, details = await refusal(second)
                assert code is grpc.StatusCode.ALREADY_EXISTS
                assert "cam" in details
            async with stream(agent, "other") as other:
                await other.read()
            await first.write(batch_of(1, 4))
            await until(first, 4)

    play(tmp_path, scene)


def test_the_socket_of_a_killed_agent_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "frames.sock"))

    async def scene(agent: Agent) -> None:
        async with stream(agent) as call:
            assert (await call.read()).watermark == 0

    play(tmp_path, scene)
    assert not (tmp_path / "frames.sock").exists()


def test_the_socket_of_a_living_agent_is_left_alone(tmp_path: Path) -> None:
    async def scene(agent: Agent) -> None:
        with pytest.raises(SocketUnusable, match="another process listens"):
            async with frames_server(agent.inference, agent.path):
                pass
        async with stream(agent) as call:
            await call.read()

    play(tmp_path, scene)


def test_a_file_in_the_sockets_place_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "frames.sock").write_text("mine")
    with pytest.raises(SocketUnusable, match="no socket"):
        play(tmp_path, lambda _: asyncio.sleep(0))
    assert (tmp_path / "frames.sock").read_text() == "mine"


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    with pytest.raises(SocketUnusable, match="shorter path"):
        play(folder, lambda _: asyncio.sleep(0))


async def _feed_through_cuts(agent: Agent, source: str, last: int, chance: random.Random) -> None:
    """A source that breaks off now and then, and goes on from the watermark it is answered."""
    while True:
        async with stream(agent, source) as call:
            following = (await call.read()).watermark + 1
            while following <= last and chance.random() > 0.1:
                count = min(chance.randint(1, 40), last + 1 - following)
                await call.write(batch_of(following, count))
                following += count
            if following > last:
                await until(call, last)
                return


def test_from_the_sources_to_the_ingest_nothing_is_lost_or_doubled_whatever_is_cut(tmp_path: Path) -> None:
    ingest = SimulatedIngest(faults=Faults(cut=0.05, lose_ack=0.3))
    chance = random.Random(5)

    async def scene(agent: Agent) -> None:
        async with listening(ingest) as port:
            uplink = Uplink(f"127.0.0.1:{port}", "edge-1", agent.outbox, chance=lambda: 0.05)
            running = asyncio.create_task(uplink.run())
            await asyncio.gather(*(_feed_through_cuts(agent, source, 2000, chance) for source in ("cam-a", "cam-b")))
            await eventually(lambda: agent.outbox.depth().rows == 0)
            running.cancel()

    play(tmp_path, scene)
    rows: dict[str, list[int]] = {"cam-a": [], "cam-b": []}
    for payload in ingest.payloads:
        results = decode(payload, ResultBatch.FromString(payload).count)
        rows[results.source] += results.frame.tolist()
        assert results.label.tolist() == [frame % 4 for frame in results.frame.tolist()]
    assert rows == {"cam-a": list(range(1, 2001)), "cam-b": list(range(1, 2001))}
