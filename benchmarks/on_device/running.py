"""The agent as a process of its own, in a folder with a committed model, with a source and an ingest beside it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
from numpy.typing import NDArray

from benchmarks.on_device.models import Subject
from edge.foundation.checked import FRAMES_SOCKET
from edge.models.service import ModelStore
from protos.kit.children import bound_to
from protos.topics import DEFAULT_SLOT
from protos.v1.frames_pb2 import FrameBatch, FramesHello, FramesMessage, FramesReply
from protos.v1.frames_pb2_grpc import FramesStub
from protos.v1.manifest_pb2 import Artifact, Manifest, Variant
from protos.v1.uplink_pb2 import Ack, UplinkMessage, UplinkReply, Welcome
from protos.v1.uplink_pb2_grpc import UplinkServicer, add_UplinkServicer_to_server

_Call = Any  # grpc.aio.StreamStreamCall of the generated stub, which has no types

NOBODY = "127.0.0.1:9"
"""Where nobody listens."""

WINDOW = 8
MAX_BATCH_BYTES = 128 * 1024
CLASSES = 10


def prepare(folder: Path, subject: Subject) -> None:
    """Make a device's data folder with the model as if an update had been committed there."""
    data = subject.path.read_bytes()
    artifact = Artifact(digest=hashlib.sha256(data).digest(), size=len(data))
    variant = Variant(name="int8", artifact=artifact, input=subject.variant.input, output=subject.variant.output)
    labels = [str(number) for number in range(CLASSES)]
    manifest = Manifest(
        model="measured", version=1, preprocessing=subject.preprocessing, labels=labels, variants=[variant]
    )
    store = ModelStore.open(folder / "models", DEFAULT_SLOT)
    store.stage(manifest.SerializeToString(), variant.name, subject.path)
    store.begin_trial()
    store.commit()
    # A cloud that has no metadata yet: nothing will be deployed here.
    (folder / "trust.json").write_text(json.dumps({"manifest": "none", "deployment": "none"}))


@contextmanager
def agent(folder: Path, uplink: str) -> Iterator[subprocess.Popen[bytes]]:
    """An agent that works in the prepared folder."""
    settings = {"--id": "measured", "--dir": str(folder), "--broker": f"mqtt://{NOBODY}", "--uplink": uplink}
    command = [sys.executable, "-m", "edge.cli", "run", *(part for flag in settings.items() for part in flag)]
    with subprocess.Popen(bound_to(os.getpid(), command), stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()


class Feed:
    """A source that hands over as fast as the agent takes it. settled: frames with a durable result."""

    def __init__(self, folder: Path, frames: NDArray[np.uint8]) -> None:
        self.settled = 0
        self._socket = folder / FRAMES_SOCKET
        self._pixels = frames.tobytes()
        self._count = len(frames)

    async def first(self, agent: subprocess.Popen[bytes]) -> None:
        """Return when the next frame has its result, as soon as the agent takes it."""
        while not self._socket.exists():
            assert agent.poll() is None, f"the agent ended with exit code {agent.returncode}"
            await asyncio.sleep(0.005)
        async with self._stream() as call:
            following = self.settled + 1
            await call.write(FramesMessage(batch=self._batch(following, count=1)))
            await self._until(call, following)

    async def run(self) -> None:
        """Feed until cancelled."""
        async with self._stream() as call:
            listening = asyncio.create_task(self._until(call, 2**62))
            following = self.settled + 1
            try:
                while not listening.done():
                    await call.write(FramesMessage(batch=self._batch(following, self._count)))
                    following += self._count
                listening.result()
            finally:
                listening.cancel()

    @asynccontextmanager
    async def _stream(self) -> AsyncIterator[_Call]:
        async with grpc.aio.insecure_channel(f"unix:{self._socket}") as channel:
            call = FramesStub(channel).Feed(wait_for_ready=True)  # type: ignore[no-untyped-call]
            await call.write(FramesMessage(hello=FramesHello(source="measured")))
            self.settled = (await call.read()).watermark
            yield call

    async def _until(self, call: _Call, watermark: int) -> None:
        while self.settled < watermark:
            reply = await call.read()
            assert isinstance(reply, FramesReply), f"the agent ended the stream: {await call.details()}"
            assert not reply.problem, reply.problem
            self.settled = reply.watermark

    def _batch(self, first: int, count: int) -> FrameBatch:
        return FrameBatch(
            first_frame=first,
            count=count,
            pixels=self._pixels[: len(self._pixels) // self._count * count],
            first_captured_us=time.time_ns() // 1000,
            captured_offset_us=bytes(4 * count),
        )


class _Forgetful(UplinkServicer):
    """An ingest that acknowledges everything and keeps nothing."""

    async def Connect(  # noqa: N802 - the contract's name
        self, messages: AsyncIterator[UplinkMessage], _: object
    ) -> AsyncIterator[UplinkReply]:
        await anext(messages)
        yield UplinkReply(welcome=Welcome(window=WINDOW, max_batch_bytes=MAX_BATCH_BYTES))
        async for message in messages:
            if message.WhichOneof("body") == "batch":
                yield UplinkReply(ack=Ack(watermark=message.batch.first_seq + message.batch.count - 1))


@asynccontextmanager
async def ingest() -> AsyncIterator[str]:
    """The address of an ingest that costs next to nothing."""
    server = grpc.aio.server()
    add_UplinkServicer_to_server(_Forgetful(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)
