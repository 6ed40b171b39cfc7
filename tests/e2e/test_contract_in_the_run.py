"""What crosses the broker in a whole run is what protos/channels.py and docs/asyncapi.yaml say: all, and no more."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from cloud.delivery import sentences
from cloud.delivery.crossings import Crossing, breaches, read
from protos import topics
from protos.channels import CHANNELS, Encoded
from simulators.demo.processes import PACKAGES, Processes
from simulators.demo.world import Plan, World
from tests.e2e.watched_broker import CLOUD, DEVICES, STRANGER, WITNESS, Broker, Witness

FIRST, SECOND = DEVICES
VERSION = 1

pytestmark = pytest.mark.skipif(shutil.which("mosquitto") is None, reason="Mosquitto is not installed: run make setup")


@dataclass
class Run:
    """One run, over."""

    crossings: list[Crossing]
    missed: int
    kept: dict[str, bytes]
    denials: list[str]
    will: list[Crossing] = field(default_factory=list)
    """Of the killed device, between its death and its return."""


@pytest.fixture(scope="module")
def run(registry: Path, data: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A rollout to two devices, one of which is killed before it, and finds chunks lost when it comes back."""
    folder = tmp_path_factory.mktemp("contract") / "world"
    shutil.copytree(registry, folder)
    broker = Broker(folder)
    with broker.running(), Processes(folder) as processes:
        with Witness(broker.address(WITNESS)) as witness:
            will = play(World(folder, Plan(len(DEVICES), data), processes), broker, witness)
        return Run(witness.crossings, witness.missed, broker.kept(), broker.denials(), will)


def play(world: World, broker: Broker, witness: Witness) -> list[Crossing]:
    world.processes.start("cloud", world.serve_command("--broker", broker.url(CLOUD)))
    world.cloud_ready()
    for device in DEVICES:
        start(world, broker, device)
    world.until("both devices are online", world.devices_online, within_s=60)

    alive = len(witness.crossings)
    world.processes.kill(SECOND)
    witness.saw(lambda crossing: said(crossing) == (topics.presence(SECOND), b"offline"))
    will = [crossing for crossing in witness.crossings[alive:] if crossing.topic == topics.presence(SECOND)]

    world.roll_out(VERSION, waves=("rest",))
    world.until("the first device runs it", lambda: runs(world, FIRST), within_s=60)
    lose_the_chunks(broker, witness)
    start(world, broker, SECOND)
    world.until("the second device runs it", lambda: runs(world, SECOND), within_s=90)
    witness.saw(
        lambda crossing: channel_of(crossing) == "manifest" and not crossing.payload
    )  # nobody needs it any more
    world.publish_bad()  # one version more, whose metadata takes the place of older metadata
    witness.saw(lambda crossing: channel_of(crossing) == "metadata" and not crossing.payload)
    for process in (FIRST, SECOND, "cloud"):
        world.processes.stop(process)
    witness.saw(lambda crossing: said(crossing) == (topics.presence(FIRST), b"offline"))
    return will


def start(world: World, broker: Broker, device: str) -> None:
    world.broker_url = broker.url(device)
    world.start_agent(device)


def runs(world: World, device: str) -> bool:
    found = world.get(f"/api/v1/devices/{device}")
    return bool(found["state"] == "committed" and found["version"] == VERSION)


def lose_the_chunks(broker: Broker, witness: Witness) -> None:
    """As a broker does that is restarted without its memory; nobody but the test may."""
    chunks = {crossing.topic for crossing in witness.crossings if channel_of(crossing) == "chunk"}
    for topic in chunks:
        broker.say(STRANGER, topic, b"", retain=True)


def said(crossing: Crossing) -> tuple[str, bytes]:
    return crossing.topic, crossing.payload


def channel_of(crossing: Crossing) -> str:
    return sentences.kind(read(crossing))


def test_every_message_obeys_its_channel_and_nothing_else_crosses(run: Run) -> None:
    assert {crossing.topic: breaches(crossing) for crossing in run.crossings if breaches(crossing)} == {}
    assert run.missed == 0
    assert None not in {crossing.retained for crossing in run.crossings}


def test_every_channel_of_the_table_is_spoken_on(run: Run) -> None:
    assert {channel_of(crossing) for crossing in run.crossings} == {channel.name for channel in CHANNELS}


def test_the_broker_says_a_killed_device_offline_as_the_table_says(run: Run) -> None:
    assert [(crossing.payload, crossing.retained, crossing.qos) for crossing in run.will] == [(b"offline", True, 1)]


def test_nobody_publishes_where_the_table_gives_no_right(run: Run) -> None:
    assert run.denials == []


def test_what_can_be_cleared_is_cleared_and_nothing_else(run: Run) -> None:
    cleared = {channel_of(crossing) for crossing in run.crossings if not crossing.payload}
    assert cleared == {channel.name for channel in CHANNELS if channel.cleared}


def test_the_broker_keeps_the_last_word_on_each_retained_topic_and_nothing_else(run: Run) -> None:
    last = {crossing.topic: crossing.payload for crossing in run.crossings if retained(crossing)}
    assert run.kept == {topic: payload for topic, payload in last.items() if payload}
    kept = {channel_of(Crossing(topic, b"", 1, None)) for topic in run.kept}
    assert kept == {"metadata", "metadata_index", "desired", "reported", "presence"}


def retained(crossing: Crossing) -> bool:
    channel = read(crossing).channel
    return channel is not None and channel.retained


def test_every_message_is_decoded_as_the_document_says(run: Run) -> None:
    document: dict[str, Any] = yaml.safe_load((PACKAGES / "docs" / "asyncapi.yaml").read_text())
    decoded = [reading for reading in map(read, run.crossings) if reading.message is not None]
    assert {reading.channel.name for reading in decoded if reading.channel} == {
        channel.name for channel in CHANNELS if isinstance(channel.payload, Encoded)
    }
    for reading in decoded:
        assert reading.message
        schema = {"$ref": f"#/components/schemas/{reading.message.DESCRIPTOR.name}", **document}
        jsonschema.Draft7Validator(schema).validate(sentences.document(reading)["message"])


# The check can fail: what breaks the contract is seen, and what a role may not do is not let through.


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    site = Broker(tmp_path)
    with site.running():
        yield site


ONLINE = Crossing(topics.presence(FIRST), b"online", qos=1, retained=True)


@pytest.mark.parametrize(
    ("crossing", "reason"),
    [
        (Crossing("somebody/elses", b"x", 1, retained=False), "no channel of the contract has this topic"),
        (replace(ONLINE, retained=False), "it is not retained"),
        (replace(ONLINE, qos=0), "it was published with QoS 0"),
        (replace(ONLINE, qos=2), "it was published with QoS 2"),
        (replace(ONLINE, payload=b"maybe"), "it is none of the words"),
        (replace(ONLINE, topic=topics.reported(FIRST), payload=b"\xff"), "it is no Report"),
        (replace(ONLINE, topic=topics.chunk(bytes(32), 0), payload=bytes(65_537)), "it has 65537 bytes"),
    ],
)
def test_a_breach_that_crosses_is_told(broker: Broker, crossing: Crossing, reason: str) -> None:
    with Witness(broker.address(WITNESS)) as witness:
        broker.say(STRANGER, crossing.topic, crossing.payload, crossing.qos, retain=bool(crossing.retained))
        witness.saw(lambda _: True)
    assert witness.crossings == [crossing]
    assert [told.startswith(reason) for told in breaches(crossing)] == [True]


@pytest.mark.parametrize(
    ("account", "topic"),
    [
        (FIRST, topics.desired(FIRST)),
        (FIRST, topics.chunk(bytes(32), 0)),
        (FIRST, topics.reported(SECOND)),
        (FIRST, topics.presence(SECOND)),
        (CLOUD, topics.reported(FIRST)),
        (CLOUD, topics.repair(bytes(32))),
    ],
)
def test_who_publishes_without_a_right_is_denied(broker: Broker, account: str, topic: str) -> None:
    broker.say(account, topic, b"x")
    assert [topic in line for line in broker.denials()] == [True]
