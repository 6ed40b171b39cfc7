"""Frames and results over a broker beside the device."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from cloud.foundation.broker import embedded_broker
from edge.foundation.settings import EdgeSettings
from edge.inference import local
from edge.inference.entities import Blueprint
from edge.inference.service import Inference
from edge.uplink.outbox import Outbox
from protos.kit.link import Address, Link
from tests import in_thread, tiny_models
from tests.integration.device_kit import free_port
from tests.waiting import eventually

GOOD = tiny_models.int8(tiny_models.weights())


def test_frames_of_a_topic_become_results_on_another_and_in_a_file(tmp_path: Path) -> None:
    port = free_port()
    file_of_answers = tmp_path / "answers.jsonl"
    settings = EdgeSettings(
        dir=tmp_path,
        local_broker=f"mqtt://127.0.0.1:{port}",
        frames_topic="plant/camera",
        results_topic="plant/answers",
        results_file=file_of_answers,
    )
    manifest = tiny_models.manifest({"int8": GOOD})
    file = tmp_path / "model.tflite"
    file.write_bytes(GOOD)

    async def main() -> list[dict[str, object]]:
        heard: asyncio.Queue[bytes] = asyncio.Queue()
        outbox = Outbox.open(tmp_path / "outbox.db", 1 << 30)
        inference = Inference(outbox, start=in_thread.start)
        await inference.use(Blueprint(file, manifest.variants[0], manifest.preprocessing, 1, bytes(32), "tiny", 1))
        async with embedded_broker("amqtt", "127.0.0.1", port, tmp_path):
            plant = Link(Address("127.0.0.1", port), "plant")
            await plant.subscribe(lambda _, data: heard.put_nowait(data), "plant/answers")
            work = [inference.run(), plant.run(), *local.ends(settings, inference).tasks.values()]
            running = [asyncio.create_task(one) for one in work]
            await plant.connected.wait()
            answers: list[dict[str, object]] = []
            while len(answers) < 4:
                await plant.publish("plant/camera", b"no frames")
                await plant.publish("plant/camera", tiny_models.frames().tobytes())
                try:
                    answers += json.loads(await asyncio.wait_for(heard.get(), 1))
                except TimeoutError:
                    continue  # the agent's side had not subscribed yet
            await eventually(lambda: file_of_answers.exists() and file_of_answers.read_text().endswith("\n"))
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        outbox.close()
        return answers

    answers = asyncio.run(main())
    assert [answer["label"] for answer in answers[:4]] == [0, 1, 2, 3]
    assert {answer["source"] for answer in answers} == {"topic"}
    lines = file_of_answers.read_text().splitlines()
    assert json.loads(lines[0]) == answers[0]
