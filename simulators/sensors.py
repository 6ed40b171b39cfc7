"""Simulated sensors: each feeds one agent over its Frames socket and tells the cloud what the frames truly showed.

A sensor lives through everything: an agent that is killed, a cloud that is away. After each reconnect it goes on from
the watermark that the agent answers, and the truths of all acknowledged frames are posted until the API takes them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import numpy as np
import structlog

from protos.kit.bearer import from_environment
from protos.topics import MAX_GRPC_BYTES
from protos.v1 import frames_pb2, frames_pb2_grpc
from simulators.reel import Reel

SOURCE = "sensor"
WINDOW_BATCHES = 8  # handed over and not yet acknowledged: what a killed agent costs in resent frames
RECONNECT_S = 1.0
TRUTHS_AT_ONCE = 1000
TRUTHS_EVERY_S = 0.5
FINISH_S = 30.0  # after a signal: how long to wait for the last acknowledgements and truths

_CHANNEL = [
    ("grpc.max_send_message_length", MAX_GRPC_BYTES),
    ("grpc.max_receive_message_length", MAX_GRPC_BYTES),
    # Each session is a new channel; a shared pool would make it inherit the back-off of the one before.
    ("grpc.use_local_subchannel_pool", 1),
]

_Call = Any  # grpc.aio.StreamStreamCall of the generated stub, which has no types
_EndOfStream = object

log = structlog.get_logger()


class Cut(Exception):
    """The session with the agent ended before its time; connect again and go on from the agent's watermark."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast and how far: frames a second, frames a batch, and the last frame (0: until told to stop).

    slot: of the agent, whose model infers them; empty: the main one.
    """

    rate: float
    batch: int
    count: int
    slot: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """What one sensor achieved: the highest frame handed over, acknowledged, and with its truth in the cloud."""

    device: str
    sent: int
    acknowledged: int
    truths: int

    @property
    def complete(self) -> bool:
        """Whether nothing is left open."""
        return self.sent <= self.acknowledged == self.truths


class Sensor:
    """Feeds the frames of one reel to one agent."""

    def __init__(self, device: str, socket: Path, reel: Reel, pace: Pace, stop: asyncio.Event) -> None:
        self.device = device
        self.sent = 0
        self.acknowledged = 0
        self.finished = False
        self._socket = socket
        self._reel = reel
        self._pace = pace
        self._stop = stop
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Hand over all frames and return when the agent has acknowledged them; reconnects as often as it takes."""
        while not self._reached():
            try:
                await self._session()
            except (Cut, grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
                log.info("agent not reachable", device=self.device, error=_brief(error))
                await asyncio.sleep(RECONNECT_S * random.random())
        self.finished = True
        self._moved.set()

    async def acknowledged_to(self, frame: int) -> None:
        """Return once `frame` is acknowledged, or the sensor has finished."""
        while self.acknowledged < frame and not self.finished:
            self._moved.clear()
            await self._moved.wait()

    def truth(self, first: int, count: int) -> list[int]:
        """True labels of the frames first .. first + count - 1."""
        return self._reel.truth(first, count)

    def _last(self) -> int | None:
        """The last frame to hand over; None while there is none."""
        if self._stop.is_set():
            return self.sent
        return self._pace.count or None

    def _reached(self) -> bool:
        last = self._last()
        return last is not None and self.acknowledged >= last

    async def _session(self) -> None:
        async with grpc.aio.insecure_channel(f"unix:{self._socket}", options=_CHANNEL) as channel:
            call = frames_pb2_grpc.FramesStub(channel).Feed()  # type: ignore[no-untyped-call] # generated
            hello = frames_pb2.FramesHello(source=SOURCE, slot=self._pace.slot)
            await call.write(frames_pb2.FramesMessage(hello=hello))
            self._take(await call.read())
            await _first_of(self._listen(call), self._feed(call))

    async def _listen(self, call: _Call) -> None:
        while True:
            self._take(await call.read())

    def _take(self, reply: frames_pb2.FramesReply | _EndOfStream) -> None:
        if not isinstance(reply, frames_pb2.FramesReply):
            raise Cut("the agent ended the stream")
        if reply.problem:
            raise Cut(f"the agent did not take a batch: {reply.problem}")
        self.acknowledged = max(self.acknowledged, reply.watermark)
        self.sent = max(self.sent, self.acknowledged)
        self._moved.set()

    async def _feed(self, call: _Call) -> None:
        following = self.acknowledged + 1
        due = time.monotonic()
        while (count := await self._next(following)) > 0:
            await call.write(self._batch(following, count))
            following += count
            self.sent = max(self.sent, following - 1)
            # A sensor that had to wait does not hurry afterwards: the frames it could not hand over were never taken.
            due = max(due + count / self._pace.rate, time.monotonic())
            await self._until(due)
        await self.acknowledged_to(following - 1)

    async def _next(self, following: int) -> int:
        """How many frames to hand over from `following` on, once the window has room; 0 or less: no more."""
        await self.acknowledged_to(following - 1 - (WINDOW_BATCHES - 1) * self._pace.batch)
        last = self._last()
        return self._pace.batch if last is None else min(self._pace.batch, last - following + 1)

    async def _until(self, due: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), timeout=max(0.0, due - time.monotonic()))
        except TimeoutError:
            return

    def _batch(self, first: int, count: int) -> frames_pb2.FramesMessage:
        apart_us = 1_000_000 / self._pace.rate
        offsets = (np.arange(count) * apart_us).astype("<u4")
        return frames_pb2.FramesMessage(
            batch=frames_pb2.FrameBatch(
                first_frame=first,
                count=count,
                pixels=self._reel.frames(first, count).tobytes(),
                first_captured_us=int(time.time() * 1_000_000) - int(offsets[-1]),
                captured_offset_us=offsets.tobytes(),
            )
        )


class TruthPoster:
    """Posts the true labels of one sensor's acknowledged frames, from frame 1 on: the API takes them idempotently."""

    def __init__(self, client: httpx.AsyncClient, sensor: Sensor) -> None:
        self.posted = 0
        self._client = client
        self._sensor = sensor

    async def run(self) -> None:
        """Return when the sensor has finished and every truth is taken."""
        while not (self._sensor.finished and self.posted >= self._sensor.acknowledged):
            await self._sensor.acknowledged_to(self.posted + 1)
            while self.posted < self._sensor.acknowledged:
                await self._post()
            if not self._sensor.finished:
                await asyncio.sleep(TRUTHS_EVERY_S)

    async def _post(self) -> None:
        count = min(TRUTHS_AT_ONCE, self._sensor.acknowledged - self.posted)
        body = {
            "device": self._sensor.device,
            "source": SOURCE,
            "first_frame": self.posted + 1,
            "labels": self._sensor.truth(self.posted + 1, count),
        }
        try:
            response = await self._client.post("/api/v1/truths", json=body)
            response.raise_for_status()
        except httpx.HTTPError as error:
            log.info("truths not taken yet", device=self._sensor.device, error=_brief(error))
            await asyncio.sleep(RECONNECT_S * random.random())
        else:
            self.posted += count


async def run(
    sockets: Mapping[str, Path], reels: Mapping[str, Reel], pace: Pace, api: str, stop: asyncio.Event
) -> list[Tally]:
    """Feed every device of `sockets` until the pace's count is reached or `stop` is set, then settle what is open.

    Settling after a stop takes at most FINISH_S; what is open then shows in the tallies.
    """
    sensors = [Sensor(device, socket, reels[device], pace, stop) for device, socket in sockets.items()]
    async with httpx.AsyncClient(base_url=api, timeout=10, trust_env=False, headers=from_environment()) as client:
        posters = [TruthPoster(client, sensor) for sensor in sensors]
        work = asyncio.gather(*(sensor.run() for sensor in sensors), *(poster.run() for poster in posters))
        await _settle(work, stop)
    return [
        Tally(sensor.device, sensor.sent, sensor.acknowledged, poster.posted)
        for sensor, poster in zip(sensors, posters, strict=True)
    ]


async def _settle(work: asyncio.Future[Any], stop: asyncio.Event) -> None:
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait_for(work, timeout=FINISH_S)
    except TimeoutError:
        log.warning("not everything was acknowledged in time", seconds=FINISH_S)
    finally:
        stopping.cancel()


async def _first_of(*work: Coroutine[Any, Any, None]) -> None:
    """Return or raise as the first of `work` does; the others are cancelled."""
    tasks = [asyncio.create_task(coroutine) for coroutine in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _brief(error: BaseException) -> str:
    return str(error.details()) if isinstance(error, grpc.aio.AioRpcError) else (str(error) or type(error).__name__)


def tallies_as_json(tallies: Sequence[Tally]) -> dict[str, Any]:
    """For `--json`."""
    return {
        "devices": [
            {"device": t.device, "sent": t.sent, "acknowledged": t.acknowledged, "truths": t.truths} for t in tallies
        ]
    }
