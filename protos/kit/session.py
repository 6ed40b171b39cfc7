"""One connection to an MQTT broker, in version 5 of the protocol where the broker speaks it, else in 3.1.1."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import aiomqtt
import structlog
from aiomqtt import ProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from protos.kit.address import Address
from protos.kit.client import Client, Offline, Unanswered

ANSWER_S = 10.0
"""For an acknowledgement."""
GRANT_S = 30.0
"""For the answer to a subscription, which may come behind all the retained messages that it brings."""

LEAVE_S = 1.0
"""A subscription that has served costs nobody anything: what is given up within this time is one request."""

MAX_TOPICS_A_REQUEST = 8
"""What AWS IoT Core takes in one SUBSCRIBE."""

UNSUPPORTED_VERSION = 0x84
"""The reason code of a CONNACK; the return code 1 of MQTT 3.1.1 means the same."""

Mqtt = Literal["auto", "3.1.1", "5"]

T = TypeVar("T")

log = structlog.get_logger()


class Versions:
    """Which version of MQTT to try next: 5, unless told otherwise or the broker does not speak it."""

    def __init__(self, setting: Mqtt) -> None:
        self._setting = setting
        self._is_refused = False
        self._is_unanswered = False

    @property
    def next(self) -> ProtocolVersion:
        """What the next connection begins with."""
        older = self._setting == "3.1.1" or (self._setting == "auto" and (self._is_refused or self._is_unanswered))
        return ProtocolVersion.V311 if older else ProtocolVersion.V5

    def failed(self, error: Exception) -> bool:
        """A connection was not made; returns whether another version is to be tried at once."""
        tried = self.next
        if isinstance(error, aiomqtt.MqttCodeError) and getattr(error.rc, "value", None) == UNSUPPORTED_VERSION:
            self._is_refused = True
        elif isinstance(error, Unanswered):
            self._is_unanswered = not self._is_unanswered
        return tried is ProtocolVersion.V5 and self.next is ProtocolVersion.V311

    def connected(self) -> None:
        """A connection was made. A broker that once gave no answer may speak 5 the next time."""
        self._is_unanswered = False


@dataclass(slots=True)
class Session:
    """One connection. Whoever waits for the broker's answer is let go as soon as the connection is over.

    on_end: called at once when it is over, before anybody is told.
    """

    client: Client
    broker: Address
    on_end: Callable[[], None]
    over: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    places: asyncio.Semaphore = field(init=False)
    left: dict[str, None] = field(default_factory=dict)
    """Topics that nobody wants any more, in order; the broker does not know yet."""
    leaving: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self.places = asyncio.Semaphore(self.client.most_inflight)

    def end(self) -> None:
        """Let go whoever waits."""
        if not self.over.done():
            self.over.set_result(None)
            self.on_end()
        self.client.let_go()
        if self.leaving is not None:
            self.leaving.cancel()

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Return when the broker has acknowledged. Never more at once than it takes. Raises Offline."""
        async with self.places:
            self._raise_if_over()
            await self._answer(self.client.ask_publish(topic, payload, retain=retain), ANSWER_S)

    async def subscribe(self, topics: Collection[str]) -> None:
        """Return when the broker has answered; what it refuses is logged. Raises Offline."""
        self._raise_if_over()
        portions = _portions(topics)
        for topic in topics if self.left else ():
            self.left.pop(topic, None)
        answers = [self.client.ask_subscribe(portion) for portion in portions]
        for portion, codes in zip(portions, await self._answer(_together(answers), GRANT_S), strict=True):
            self._warn_of_refusals(portion, codes)

    def unsubscribe(self, topics: Iterable[str]) -> None:
        """Tell the broker, many at once, and soon at the latest; its answer changes nothing."""
        self.left.update(dict.fromkeys(topics))
        while len(self.left) >= MAX_TOPICS_A_REQUEST:
            self._leave()
        if self.left and self.leaving is None:
            self.leaving = asyncio.get_running_loop().call_later(LEAVE_S, self._leave)

    def _leave(self) -> None:
        """Unsubscribe from as many of `left` as one request takes."""
        if self.leaving is not None:
            self.leaving.cancel()
            self.leaving = None
        topics = list(self.left)[:MAX_TOPICS_A_REQUEST]
        for topic in topics:
            del self.left[topic]
        if topics and not self.over.done():
            self.client.tell_unsubscribe(topics)

    def _warn_of_refusals(self, topics: Collection[str], codes: Sequence[ReasonCode]) -> None:
        refused = {topic: str(code) for topic, code in zip(topics, codes, strict=False) if code.is_failure}
        if refused:
            log.warning("broker refuses a subscription", broker=str(self.broker), topics=refused)

    async def _answer(self, answer: Awaitable[T], patience_s: float) -> T:
        """Raises Offline; a request that gets no answer ends the session, so that it is begun anew."""
        try:
            async with asyncio.timeout(patience_s):
                return await answer
        except TimeoutError:
            self.end()
            raise Offline(f"{self.broker} does not answer") from None

    def _raise_if_over(self) -> None:
        if self.over.done():
            raise Offline(f"connection to {self.broker} lost")


async def _together(answers: Sequence[asyncio.Future[T]]) -> Sequence[T]:
    """All of them. Most times it is one, for which gathering costs as much as the rest of the request."""
    return [await answers[0]] if len(answers) == 1 else await asyncio.gather(*answers)


def _portions(topics: Iterable[str]) -> list[list[str]]:
    ordered = list(topics)
    return [ordered[i : i + MAX_TOPICS_A_REQUEST] for i in range(0, len(ordered), MAX_TOPICS_A_REQUEST)]
