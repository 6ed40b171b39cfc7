"""A home's broker: sensors introduce themselves, tell their newest state, and are known to be away."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.inference import home_assistant
from edge.inference.entities import Blueprint
from edge.inference.home_assistant import HomeAssistant
from edge.uplink.entities import NewBatch
from protos.kit import columns
from protos.kit.columns import Results
from protos.v1.manifest_pb2 import Preprocessing, Variant
from tests.sites import Site, both, running, scenario
from tests.waiting import eventually

SERVING = Blueprint(Path("none"), Variant(), Preprocessing(), 1, b"", "pets", 3, ("cat", "dog"))
OTHER_SLOT = Blueprint(Path("none"), Variant(), Preprocessing(), 1, b"", "sounds", 3, ("bark", "purr"))
ROOT = "littoral-edge/edge-1.hall"


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_assistant, "STATE_S", 0.01)
    monkeypatch.setattr("protos.kit.link.LONGEST_DELAY_S", 0.2)


def batch(source: str, labels: list[int], version: int = 3, model: str = "pets") -> NewBatch:
    count = len(labels)
    results = Results(
        model=model,
        version=version,
        manifest=bytes(32),
        source=source,
        frame=np.arange(1, count + 1, dtype=np.uint64),
        captured_us=np.full(count, 1000, np.int64),
        label=np.array(labels, np.uint16),
        confidence=np.full(count, 0.5, np.float32),
        latency_us=np.zeros(count, np.uint32),
    )
    return NewBatch(count, columns.encode(results), source, count)


class Home:
    """What a home's hub hears, by topic."""

    def __init__(self) -> None:
        self.heard: dict[str, bytes] = {}

    def hear(self, topic: str, payload: bytes) -> None:
        self.heard[topic] = payload

    def configs(self) -> dict[str, dict[str, Any]]:
        return {topic: json.loads(data) for topic, data in self.heard.items() if topic.endswith("/config")}

    def state(self, source: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.heard.get(f"{ROOT}/{source}/state", b"{}"))
        return found

    @property
    def availability(self) -> bytes:
        return self.heard.get(f"{ROOT}/availability", b"")


def device(site: Site) -> HomeAssistant:
    return HomeAssistant(site.address, "homeassistant", "edge-1.hall", lambda: [SERVING, OTHER_SLOT])


async def listening(site: Site, name: str) -> tuple[Home, Any]:
    home, link = Home(), site.new(name)
    await link.subscribe(home.hear, "homeassistant/#", f"{ROOT}/#")
    return home, running(link)


@both
def test_a_source_becomes_two_sensors_that_a_hub_finds_whenever_it_comes(kind: Any, tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.broker():
            told = device(site)
            task = asyncio.create_task(told.run())
            told.offer(batch("folder", [0, 1]))
            first, links = await listening(site, "hub")
            async with links:
                await eventually(lambda: first.state("folder").get("label") == "dog")
            late, links = await listening(site, "late hub")
            async with links:
                await eventually(lambda: len(late.configs()) == 2 and late.state("folder")["label"] == "dog")
            assert late.availability == b"online"
            check(late)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    scenario(kind, tmp_path, test)


def check(home: Home) -> None:
    """What Home Assistant's page of MQTT discovery asks for."""
    configs = home.configs()
    assert set(configs) == {
        f"homeassistant/sensor/edge-1_hall/folder-{what}/config" for what in ("label", "confidence")
    }
    assert len({config["unique_id"] for config in configs.values()}) == 2
    for config in configs.values():
        assert config["state_topic"] in home.heard
        assert config["availability_topic"] in home.heard
        assert config["device"]["identifiers"] == ["littoral-edge-1_hall"]
        assert config["origin"]["name"] == "littoral-edge"
        assert config["value_template"].startswith("{{ ")
        assert config["value_template"].endswith(" }}")


def test_an_agent_that_ends_says_so(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.broker():
            home, links = await listening(site, "hub")
            async with links:
                task = asyncio.create_task(device(site).run())
                await eventually(lambda: home.availability == b"online")
                task.cancel()
                await eventually(lambda: home.availability == b"offline")

    scenario("amqtt", tmp_path, test)


def test_a_broker_that_forgot_is_told_again(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        told = device(site)
        task = asyncio.create_task(told.run())
        async with site.broker():
            home, links = await listening(site, "hub")
            async with links:
                told.offer(batch("folder", [1]))
                await eventually(lambda: bool(home.state("folder")))
        told.offer(batch("folder", [0]))
        async with site.broker():
            home, links = await listening(site, "hub")
            async with links:
                await eventually(lambda: home.state("folder").get("label") == "cat" and len(home.configs()) == 2)
                assert home.availability == b"online"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    scenario("amqtt", tmp_path, test)


def test_a_label_of_another_version_is_told_by_its_number(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.broker():
            told = device(site)
            task = asyncio.create_task(told.run())
            home, links = await listening(site, "hub")
            async with links:
                told.offer(batch("folder", [1], version=2))
                await eventually(lambda: home.state("folder").get("label") == "1")
                told.offer(batch("folder", [1]))
                await eventually(lambda: home.state("folder").get("label") == "dog")
                assert home.state("folder")["class"] == 1
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    scenario("amqtt", tmp_path, test)


def test_labels_have_the_names_of_the_slot_whose_model_gave_them(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with site.broker():
            told = device(site)
            task = asyncio.create_task(told.run())
            home, links = await listening(site, "hub")
            async with links:
                told.offer(batch("folder", [1]))
                told.offer(batch("microphone", [1], model="sounds"))
                await eventually(lambda: home.state("folder").get("label") == "dog")
                await eventually(lambda: home.state("microphone").get("label") == "purr")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    scenario("amqtt", tmp_path, test)
