"""Agents with several models at once, each in its slot, and versions of several variants: real broker and workers."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import pytest
from test_edge_agent import is_final, play, register, status

from edge.uplink.outbox import Outbox
from protos.kit import columns
from protos.v1 import open_inference_pb2 as oip
from protos.v1.frames_pb2 import FramesHello, FramesMessage, FramesReply
from protos.v1.frames_pb2_grpc import FramesStub
from protos.v1.manifest_pb2 import DELEGATE_NONE
from protos.v1.open_inference_pb2_grpc import GRPCInferenceServiceStub
from protos.v1.report_pb2 import UPDATE_STATE_COMMITTED, UPDATE_STATE_REFUSED
from tests import tiny_models
from tests.integration.device_kit import Cloud, Device, batch_of

SLOTS = ("--slots", "default=3,doors=1", "--trial-s", "0.2")
SLOT_OF = {"digits": "default", "gates": "doors"}
FRAMES = tiny_models.frames()


def model(scale: float) -> bytes:
    return tiny_models.int8(tiny_models.weights() * scale)


@dataclass
class Fed:
    """What one source was told until it ended."""

    sent: int
    replies: list[FramesReply]

    @property
    def problems(self) -> list[str]:
        return [reply.problem for reply in self.replies if reply.problem]


async def feed(device: Device, slot: str, stop: asyncio.Event) -> Fed:
    """Hand frames to a slot until `stop`, as fast as it takes them; then wait until all are settled."""
    async with grpc.aio.insecure_channel(f"unix:{device.folder / 'frames.sock'}") as channel:
        call = FramesStub(channel).Feed()
        await call.write(FramesMessage(hello=FramesHello(source="camera", slot=slot)))
        sent = 0

        async def write() -> None:
            nonlocal sent
            while not stop.is_set():
                await call.write(FramesMessage(batch=batch_of(FRAMES, sent + 1)))
                sent += len(FRAMES)
                await asyncio.sleep(0.002)
            await call.done_writing()

        writing = asyncio.create_task(write())
        replies = [reply async for reply in call]
        await writing
        return Fed(sent, replies)


def results(device: Device) -> dict[str, tuple[list[int], set[int], np.ndarray]]:
    """By model: versions in order of their answers, sources' frame numbers, and labels by frame."""
    outbox = Outbox.open(device.folder / "outbox.sqlite", 2**40)
    found: dict[str, list[columns.Results]] = {}
    for batch in outbox.after(0, 10**6):
        decoded = columns.decode(batch.payload, batch.count)
        assert (decoded.source, decoded.slot) == ("camera", SLOT_OF[decoded.model])
        found.setdefault(decoded.model, []).append(decoded)
    outbox.close()
    return {
        name: (
            [one.version for one in of_model],
            set(np.concatenate([one.frame for one in of_model]).tolist()),
            np.concatenate([one.label for one in of_model]),
        )
        for name, of_model in found.items()
    }


async def given(cloud: Cloud, name: str, slot: str, scale: float, generation: int) -> None:
    """A version of a model, committed in a slot."""
    file = model(scale)
    version = cloud.register(tiny_models.manifest({"int8": file}, model=name), {"int8": file})
    await cloud.publish(version)
    await cloud.deploy(version, generation, on=slot)
    state = await cloud.slot(is_final(generation), slot)
    assert (state.state, state.running) == (UPDATE_STATE_COMMITTED, version.manifest_digest), state.reason


def test_two_models_answer_one_source_while_updates_to_one_leave_the_other_undisturbed(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        await device.start(*SLOTS)
        await given(cloud, "digits", "default", 1.0, 1)
        await given(cloud, "gates", "doors", 1.0, 1)
        main_before = await cloud.slot(is_final(1))
        pids = workers(device)
        stop = asyncio.Event()
        feeding = [asyncio.create_task(feed(device, slot, stop)) for slot in ("default", "doors")]
        for generation in (2, 3):
            await given(cloud, "gates", "doors", 1 - generation / 10, generation)
        bad = tiny_models.int8(tiny_models.weights(shift=1))
        damaged = register(cloud, bad, judged_by=model(1.0))
        await cloud.publish(damaged)
        await cloud.deploy(damaged, 4, on="doors")
        assert (await cloud.slot(is_final(4), "doors")).state == UPDATE_STATE_REFUSED
        stop.set()
        fed = dict(zip(("digits", "gates"), await asyncio.gather(*feeding), strict=True))
        assert len(set(pids) & set(workers(device))) == 1, "the main model's process never changed"
        assert (await cloud.slot(is_final(1))).receipt == main_before.receipt
        assert await device.end(signal.SIGTERM) == 0

        found = results(device)
        assert found.keys() == fed.keys()
        for name, source in fed.items():
            _, frames, labels = found[name]
            assert source.problems == []
            assert source.replies[-1].watermark == source.sent
            assert frames == set(range(1, source.sent + 1)), f"{name}: no frame lost"
            assert len(labels) == source.sent, f"{name}: no frame twice"
        assert set(found["digits"][0]) == {1}
        assert sorted(set(found["gates"][0])) == [1, 2, 3]
        assert found["gates"][0] == sorted(found["gates"][0])

    play(tmp_path, scenario)


def workers(device: Device) -> list[int]:
    """Processes that models run in."""
    assert device.process
    children = Path(f"/proc/{device.process.pid}/task/{device.process.pid}/children").read_text().split()
    commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
    return [pid for pid, command in commands.items() if b"edge.inference.worker" in command]


def test_a_slot_with_a_smaller_share_yields_to_the_other(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        await device.start(*SLOTS)
        await given(cloud, "digits", "default", 1.0, 1)
        await given(cloud, "gates", "doors", 1.0, 1)
        own = os.getpriority(os.PRIO_PROCESS, 0)
        assert sorted(os.getpriority(os.PRIO_PROCESS, pid) - own for pid in workers(device)) == [0, 5]

    play(tmp_path, scenario)


def test_a_killed_agent_goes_on_in_each_slot_where_it_was(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, broker: AsyncExitStack) -> None:
        await device.start(*SLOTS)
        await given(cloud, "digits", "default", 1.0, 1)
        await given(cloud, "gates", "doors", 1.0, 1)
        for slot, count in (("default", 4), ("doors", 8)):
            assert await hand_in(device, slot, count) == count
        await device.end(signal.SIGKILL)
        await broker.aclose()
        await device.start(*SLOTS)
        assert await asked(device, "default") == 4
        assert await asked(device, "doors") == 8
        told = await asyncio.to_thread(status, device)
        assert (told["slot"], told["running"]["model"]) == ("default", "digits")
        assert [(other["slot"], other["running"]["model"]) for other in told["others"]] == [("doors", "gates")]

    play(tmp_path, scenario)


async def hand_in(device: Device, slot: str, count: int) -> int:
    """Hand in so many frames; the watermark once they are settled."""
    async with grpc.aio.insecure_channel(f"unix:{device.folder / 'frames.sock'}") as channel:
        call = FramesStub(channel).Feed()
        await call.write(FramesMessage(hello=FramesHello(source="camera", slot=slot)))
        for first in range(1, count, len(FRAMES)):
            await call.write(FramesMessage(batch=batch_of(FRAMES, first)))
        await call.done_writing()
        return [reply.watermark async for reply in call][-1]


async def asked(device: Device, slot: str) -> int:
    """The watermark that a source begins with."""
    return await hand_in(device, slot, 0)


def test_a_question_is_answered_by_the_slot_that_runs_the_model(tmp_path: Path) -> None:
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        await device.start(*SLOTS)
        await given(cloud, "digits", "default", 1.0, 1)
        await given(cloud, "gates", "doors", 1.0, 1)
        async with grpc.aio.insecure_channel(f"unix:{device.folder / 'frames.sock'}") as channel:
            stub = GRPCInferenceServiceStub(channel)
            for name in ("digits", "gates"):
                answer = await stub.ModelInfer(question(name))
                assert (answer.model_name, np.frombuffer(answer.raw_output_contents[0], "<u2").tolist()) == (
                    name,
                    [0, 1, 2, 3],
                )
            with pytest.raises(grpc.aio.AioRpcError, match="not 'other'"):
                await stub.ModelInfer(question("other"))

    play(tmp_path, scenario)


def question(name: str) -> oip.ModelInferRequest:
    tensor = oip.ModelInferRequest.InferInputTensor(name="frames", datatype="UINT8", shape=FRAMES.shape)
    return oip.ModelInferRequest(model_name=name, inputs=[tensor], raw_input_contents=[FRAMES.tobytes()])


def test_a_source_that_names_a_slot_which_is_none_is_told_which_there_are(tmp_path: Path) -> None:
    async def scenario(_: Cloud, device: Device, __: AsyncExitStack) -> None:
        await device.start(*SLOTS)
        with pytest.raises(grpc.aio.AioRpcError, match="no slot 'window' on this device: it has default, doors"):
            await hand_in(device, "window", 4)

    play(tmp_path, scenario)


def test_two_slots_that_are_given_the_same_version_at_once_both_get_it(tmp_path: Path) -> None:
    # Their one link has one handler for a topic: they must not take each other's chunks.
    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        await device.start(*SLOTS)
        file = model(1.0) + np.random.default_rng(0).bytes(400_000)
        version = cloud.register(tiny_models.manifest({"int8": file}), {"int8": file})
        await cloud.publish(version)
        for slot in ("default", "doors"):
            await cloud.deploy(version, 1, on=slot)
        for slot in ("default", "doors"):
            state = await cloud.slot(is_final(1), slot)
            assert (state.state, state.running) == (UPDATE_STATE_COMMITTED, version.manifest_digest), state.reason

    play(tmp_path, scenario)


Scenario = Callable[[Cloud, Device, AsyncExitStack], Awaitable[None]]


def test_the_variants_of_a_version_are_measured_here_and_the_table_is_reported(tmp_path: Path) -> None:
    files = {"int8": model(1.0), "float32": tiny_models.float32(tiny_models.weights()), "int8-plain": model(1.0)}

    async def scenario(cloud: Cloud, device: Device, _: AsyncExitStack) -> None:
        await device.start()
        draft = tiny_models.manifest(files)
        draft.variants[2].delegate = DELEGATE_NONE
        for variant, accuracy in zip(draft.variants, (0.98, 0.99, 0.98), strict=True):
            variant.accuracy = accuracy
        draft.accuracy_floor = 0.95
        version = cloud.register(draft, files)
        await cloud.publish(version)
        await cloud.deploy(version, 1)
        slot = await cloud.slot(is_final(1))
        assert slot.state == UPDATE_STATE_COMMITTED, slot.reason
        rows = {row.variant: row for row in slot.variants}
        assert rows.keys() == files.keys()
        assert all(row.frame_us > 0 and row.measured_in == 1 and not row.problem for row in rows.values())
        assert rows[slot.variant].frame_us <= 1.05 * min(row.frame_us for row in rows.values())
        assert cloud.receipt(slot).variant == slot.variant
        replies = await device.feed(FRAMES, 1)
        assert (replies[-1].watermark, replies[-1].problem) == (4, "")
        told = await asyncio.to_thread(status, device)
        assert {row["variant"] for row in told["variants"]} == files.keys()
        assert told["variant"] == slot.variant
        assert cloud.reports["edge-1"].hardware

    play(tmp_path, scenario)
