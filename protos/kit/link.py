"""One process's session with an MQTT broker: reconnects for ever, subscribes again, hands each message to its handlers.

The broker is never trusted to remember anything: after each connect the owner is told, and says again what must hold.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiomqtt
import structlog
from paho.mqtt.client import topic_matches_sub

from protos.topics import MAX_MQTT_BYTES

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 30.0
KEEPALIVE_S = 10
QOS = 1

Handler = Callable[[str, bytes], Awaitable[None] | None]
Connected = Callable[[], Awaitable[None]]

log = structlog.get_logger()


class Offline(Exception):
    """The broker cannot be reached now. What was to be said is not said; say it again after the next connect."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker listens."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None

    @classmethod
    def parse(cls, url: str) -> Address:
        """From `mqtt://[user:password@]host[:1883]`. Raises ValueError that says what is wrong."""
        parts = urlsplit(url)
        if parts.scheme != "mqtt" or not parts.hostname:
            raise ValueError(f"broker {url!r} is not of the form mqtt://host:port")
        return cls(parts.hostname, parts.port or 1883, parts.username, parts.password)

    def __str__(self) -> str:
        return f"mqtt://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when this session ends without a word."""

    topic: str
    payload: bytes


def delay_before(attempt: int, randomness: float) -> float:
    """Seconds before reconnect `attempt` (from 0): capped exponential backoff with full jitter, `randomness` in [0, 1)."""
    return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(attempt, 20)) * randomness)


class Link:
    """Messages to and from one broker, for as long as `run` runs."""

    def __init__(self, address: Address, client_id: str, will: Will | None = None) -> None:
        self._address = address
        self._client_id = client_id
        self._will = will
        self._handlers: dict[str, Handler] = {}
        self._client: aiomqtt.Client | None = None
        self._on_connect: list[Connected] = []
        self.connected = asyncio.Event()

    def on_connect(self, action: Connected) -> None:
        """Have `action` awaited after every connect, once the subscriptions stand."""
        self._on_connect.append(action)

    async def subscribe(self, handler: Handler, *topics: str) -> None:
        """Give what arrives on `topics` (wildcards allowed) to `handler`, now and after every reconnect.

        Handlers run one after the other, in the order of arrival: a slow one hands its work to a task of its own.
        """
        self._handlers.update(dict.fromkeys(topics, handler))
        if self._client is not None:
            await self._attempt(self._client.subscribe([(topic, QOS) for topic in topics]))

    async def unsubscribe(self, *topics: str) -> None:
        """Stop what `subscribe` began."""
        for topic in topics:
            self._handlers.pop(topic, None)
        if self._client is not None:
            await self._attempt(self._client.unsubscribe(list(topics)))

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1; returns when the broker has acknowledged. Raises Offline, or ValueError if too large."""
        if len(payload) > MAX_MQTT_BYTES:
            raise ValueError(f"{len(payload)} bytes for {topic}: the limit is {MAX_MQTT_BYTES}")
        client = self._client
        if client is None:
            raise Offline(f"not connected to {self._address}")
        try:
            await client.publish(topic, payload, qos=QOS, retain=retain)
        except aiomqtt.MqttError as error:
            raise Offline(f"connection to {self._address} lost") from error

    async def run(self) -> None:
        """Connect, serve, and connect again, until cancelled."""
        attempt = 0
        while True:
            try:
                async with self._new_client() as client:
                    attempt = 0
                    await self._serve(client)
            except aiomqtt.MqttError as error:
                log.warning("broker not reachable", broker=str(self._address), error=str(error), attempt=attempt)
            finally:
                self._client = None
                self.connected.clear()
            await asyncio.sleep(delay_before(attempt, random.random()))
            attempt += 1

    def _new_client(self) -> aiomqtt.Client:
        will = aiomqtt.Will(self._will.topic, self._will.payload, QOS, retain=True) if self._will else None
        return aiomqtt.Client(
            self._address.host,
            self._address.port,
            username=self._address.username,
            password=self._address.password,
            identifier=self._client_id,
            will=will,
            keepalive=KEEPALIVE_S,
            clean_session=True,
            max_inflight_messages=64,
        )

    async def _serve(self, client: aiomqtt.Client) -> None:
        if self._handlers:
            await client.subscribe([(topic, QOS) for topic in self._handlers])
        self._client = client
        self.connected.set()
        log.info("connected to broker", broker=str(self._address))
        greeting = asyncio.create_task(self._greet(), name="greet")
        try:
            async for message in client.messages:
                await self._dispatch(str(message.topic), message.payload)
        finally:
            greeting.cancel()

    async def _greet(self) -> None:
        for action in self._on_connect:
            try:
                await action()
            except Offline:
                return  # the next connect greets again
            except Exception:
                log.exception("greeting the broker failed")

    async def _dispatch(self, topic: str, payload: object) -> None:
        data = payload if isinstance(payload, bytes) else b""
        if len(data) > MAX_MQTT_BYTES:
            log.warning("message over the size limit dropped", topic=topic, bytes=len(data))
            return
        for pattern, handler in _matching(list(self._handlers.items()), topic):
            try:
                outcome = handler(topic, data)
                if outcome is not None:
                    await outcome
            except Offline as error:
                log.debug("answer not sent", topic=topic, error=str(error))
            except Exception:
                # One bad message must not cost the session, nor the messages after it.
                log.exception("message could not be handled", topic=topic, subscription=pattern)

    async def _attempt(self, request: Awaitable[object]) -> None:
        """A lost connection is no error here: `run` subscribes to all handlers again."""
        try:
            await request
        except aiomqtt.MqttError as error:
            log.debug("subscription waits for the next connect", error=str(error))


def _matching(handlers: Sequence[tuple[str, Handler]], topic: str) -> list[tuple[str, Handler]]:
    return [(pattern, handler) for pattern, handler in handlers if topic_matches_sub(pattern, topic)]
