"""The Frames service on a Unix socket: how applications on the device hand frames to the agent, and ask it."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import numpy as np

from edge.inference import rules
from edge.inference.by_slot import BySlot
from edge.inference.data_plane import DataPlane
from edge.inference.entities import FrameRun, MalformedFrames, Overload, SourceBusy
from edge.inference.intake import Intake
from edge.inference.open_inference import OpenInference
from edge.inference.requests import Requests
from edge.inference.service import Inference
from protos.topics import MAX_GRPC_BYTES
from protos.v1.frames_pb2 import OVERLOAD_DROP_OLDEST, OVERLOAD_WAIT, FramesHello, FramesMessage, FramesReply
from protos.v1.frames_pb2_grpc import FramesServicer, add_FramesServicer_to_server
from protos.v1.open_inference_pb2_grpc import add_GRPCInferenceServiceServicer_to_server

MAX_SOCKET_PATH_BYTES = 107
"""Linux keeps a Unix socket's path in 108 bytes, the last one zero."""

_SERVER = [
    ("grpc.max_send_message_length", MAX_GRPC_BYTES),
    ("grpc.max_receive_message_length", MAX_GRPC_BYTES),
]

POLICIES = {OVERLOAD_WAIT: Overload.WAIT, OVERLOAD_DROP_OLDEST: Overload.DROP_OLDEST}

LOOPBACK = "127.0.0.1"

_Messages = AsyncIterator[FramesMessage]
_Context = grpc.aio.ServicerContext[FramesMessage, FramesReply]


class SocketUnusable(Exception):
    """The agent cannot listen at this path. The message says why and what to do."""


class FramesService(FramesServicer):
    """Converts between the stream of a source and its intake."""

    def __init__(self, slots: BySlot) -> None:
        self._slots = slots

    async def Feed(self, messages: _Messages, context: _Context) -> None:  # noqa: N802 - the contract's name
        """One source's stream. Ends when the source has ended and everything it handed in is settled."""
        try:
            hello = await _hello(messages)
            inference = self._slots.of(hello.slot)
            async with inference.intake(hello.source, POLICIES[hello.overload]) as intake:
                await self._converse(messages, inference, intake, context)
        except SourceBusy as error:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, str(error))
        except ValueError as error:  # MalformedFrames, or a name of a source or slot that is none
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    async def _converse(self, messages: _Messages, inference: Inference, intake: Intake, context: _Context) -> None:
        reading = asyncio.create_task(_read(messages, inference, intake), name=f"frames of {intake.source}")
        try:
            async for reply in intake.replies():
                await context.write(
                    FramesReply(watermark=reply.watermark, problem=reply.problem, dropped=reply.dropped)
                )
            await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports on this device's loopback for the Open Inference Protocol; 0: none."""

    http: int = 0
    grpc: int = 0


@asynccontextmanager
async def frames_server(inference: Inference | BySlot, path: Path, ports: Ports | None = None) -> AsyncIterator[None]:
    """Serve frames and questions at `path`, and questions at `ports`, within the block.

    inference: of one model, or of several, of which sources name the slot, and questions the model. A socket that a
    killed agent left there is removed. Raises SocketUnusable.
    """
    ports = ports or Ports()
    slots = BySlot.of_one(inference)
    requests = [Requests(of_slot) for of_slot in slots]
    plane = DataPlane(requests)
    asking = [asyncio.create_task(one.run(), name="questions of applications") for one in requests]
    try:
        async with AsyncExitStack() as doors:
            await doors.enter_async_context(_socket(FramesService(slots), plane, path))
            if ports.grpc:
                await doors.enter_async_context(_grpc_port(plane, ports.grpc))
            if ports.http:
                await doors.enter_async_context(_http_port(plane, ports.http))
            yield
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


@asynccontextmanager
async def _socket(frames: FramesService, plane: DataPlane, path: Path) -> AsyncIterator[None]:
    _make_way(path)
    server = grpc.aio.server(options=_SERVER)
    add_FramesServicer_to_server(frames, server)  # type: ignore[no-untyped-call]
    add_GRPCInferenceServiceServicer_to_server(OpenInference(plane), server)  # type: ignore[no-untyped-call]
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError as error:
        raise SocketUnusable(f"cannot listen at {path}: mend the rights of its folder") from error
    await server.start()
    try:
        yield
    finally:
        await server.stop(grace=None)
        await asyncio.to_thread(path.unlink, missing_ok=True)


@asynccontextmanager
async def _grpc_port(plane: DataPlane, port: int) -> AsyncIterator[None]:
    server = grpc.aio.server(options=[*_SERVER, ("grpc.so_reuseport", 0)])  # two agents must not share it unawares
    add_GRPCInferenceServiceServicer_to_server(OpenInference(plane), server)  # type: ignore[no-untyped-call]
    try:
        server.add_insecure_port(f"{LOOPBACK}:{port}")
    except RuntimeError as error:
        raise SocketUnusable(_taken(port, "infer_grpc_port")) from error
    await server.start()
    try:
        yield
    finally:
        await server.stop(grace=None)


@asynccontextmanager
async def _http_port(plane: DataPlane, port: int) -> AsyncIterator[None]:
    from edge.inference.routes import http_server  # noqa: PLC0415 - aiohttp takes 11 MB, where it is asked for

    async with AsyncExitStack() as door:
        try:
            await door.enter_async_context(http_server(plane, LOOPBACK, port))
        except OSError as error:
            raise SocketUnusable(_taken(port, "infer_http_port")) from error
        yield


def _taken(port: int, setting: str) -> str:
    return f"cannot listen at {LOOPBACK}:{port}: another program may have this port, set another {setting}"


def _make_way(path: Path) -> None:
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise SocketUnusable(f"{path} is longer than {MAX_SOCKET_PATH_BYTES} bytes: use a folder with a shorter path")
    if not path.is_socket():
        if path.exists():
            raise SocketUnusable(f"{path} is there and is no socket: move it away")
        return
    with closing(socket.socket(socket.AF_UNIX)) as probe:
        if probe.connect_ex(os.fspath(path)) == 0:
            raise SocketUnusable(f"another process listens at {path}: end the other agent of this folder")
    path.unlink(missing_ok=True)


async def _read(messages: _Messages, inference: Inference, intake: Intake) -> None:
    try:
        async for message in messages:
            await inference.hand_over(intake, _run(message))
        intake.end()
    except MalformedFrames:
        intake.leave()
        raise


async def _hello(messages: _Messages) -> FramesHello:
    message = await anext(messages, None)
    if message is None or message.WhichOneof("body") != "hello":
        raise MalformedFrames("the first message of a stream is the hello")
    if message.hello.overload not in POLICIES:
        raise MalformedFrames(f"overload is {message.hello.overload}: this agent knows {sorted(POLICIES)}")
    return message.hello


def _run(message: FramesMessage) -> FrameRun:
    if message.WhichOneof("body") != "batch":
        raise MalformedFrames("after the hello a stream holds batches only")
    batch = message.batch
    rules.check_batch(
        batch.first_frame, batch.count, len(batch.pixels), len(batch.captured_offset_us), batch.first_captured_us
    )
    offsets = np.frombuffer(batch.captured_offset_us, "<u4").astype(np.int64)
    return FrameRun(
        first_frame=batch.first_frame,
        pixels=np.frombuffer(batch.pixels, np.uint8).reshape(batch.count, -1),
        captured_us=offsets + batch.first_captured_us,
        taken_ns=time.monotonic_ns(),
    )
