from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from edge.reporting import mqtt
from edge.reporting.mqtt import Reports
from protos import topics
from protos.kit.link import Offline
from protos.v1.report_pb2 import Report


class SimulatedLink:
    """A broker's session that keeps what is retained, and can be away."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        self.connected = asyncio.Event()
        self._greetings: list[Callable[[], Awaitable[None]]] = []

    def on_connect(self, action: Callable[[], Awaitable[None]]) -> None:
        self._greetings.append(action)

    async def connect(self) -> None:
        self.connected.set()
        for greet in self._greetings:
            await greet()

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        if not self.connected.is_set():
            raise Offline("not connected")
        assert retain
        self.published.append((topic, payload))

    def reports(self) -> list[int]:
        """The numbers of the reports that were published."""
        return [
            Report.FromString(data).reported_ms for topic, data in self.published if topic == topics.reported("edge-1")
        ]


class Talk:
    """Reports that are numbered as they are built."""

    def __init__(self, report_s: float = 3600) -> None:
        self.link = SimulatedLink()
        self.built = 0
        self.reports = Reports(self.link, "edge-1", self._build, report_s)  # type: ignore[arg-type]

    def _build(self) -> Report:
        self.built += 1
        return Report(device="edge-1", reported_ms=self.built)

    async def until(self, holds: Callable[[], bool]) -> None:
        running = asyncio.create_task(self.reports.run())
        while not holds():  # noqa: ASYNC110 - the simulated broker is polled as a person would look at it
            await asyncio.sleep(0.005)
        running.cancel()
        await asyncio.wait({running})


def test_each_connect_says_that_the_device_is_online_and_how_it_is() -> None:
    async def scenario() -> None:
        talk = Talk()
        await talk.link.connect()
        await talk.until(lambda: bool(talk.link.reports()))
        assert talk.link.published[0] == (topics.presence("edge-1"), mqtt.ONLINE)

    asyncio.run(scenario())


def test_many_changes_at_once_are_one_report_of_the_newest_state() -> None:
    async def scenario() -> None:
        talk = Talk()
        talk.link.connected.set()
        await talk.until(lambda: talk.link.reports() == [1])
        for _ in range(100):
            talk.reports.changed()
        talk.link.published.clear()
        await talk.until(lambda: bool(talk.link.reports()))
        assert len(talk.link.reports()) == 1

    asyncio.run(scenario())


def test_without_a_change_the_report_is_repeated() -> None:
    async def scenario() -> None:
        talk = Talk(report_s=0.01)
        talk.link.connected.set()
        await talk.until(lambda: len(talk.link.reports()) == 3)

    asyncio.run(scenario())


def test_what_changes_while_the_broker_is_away_is_told_when_it_is_back() -> None:
    async def scenario() -> None:
        talk = Talk()
        asyncio.get_running_loop().call_later(0.05, talk.link.connected.set)
        talk.reports.changed()
        await talk.until(lambda: bool(talk.link.reports()))

    asyncio.run(scenario())


def test_the_farewell_is_a_last_report_and_the_word_offline() -> None:
    async def scenario() -> None:
        talk = Talk()
        talk.link.connected.set()
        await talk.reports.farewell()
        assert [topic for topic, _ in talk.link.published] == [topics.reported("edge-1"), topics.presence("edge-1")]
        assert talk.link.published[-1][1] == mqtt.OFFLINE == mqtt.will("edge-1").payload

    asyncio.run(scenario())


def test_a_farewell_to_a_broker_that_is_away_is_nothing() -> None:
    async def scenario() -> None:
        talk = Talk()
        await talk.reports.farewell()
        assert talk.link.published == []

    asyncio.run(scenario())
