"""One process's session with an MQTT broker: reconnects for ever, subscribes again, hands each message to its handlers.

The broker is never trusted to remember anything: after each connect the owner is told, and says again what must hold.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import aiomqtt
import structlog
from paho.mqtt.client import topic_matches_sub

from protos.topics import MAX_MQTT_BYTES

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 30.0
KEEPALIVE_S = 10
STEADY_S = 5.0
"""A session that lasted this long was a good one: the next reconnect starts with the shortest delay again."""

QOS = 1
REFUSED = 0x80
"""The return code of a SUBACK for a subscription that the broker does not grant."""

MAX_TOPICS_A_REQUEST = 8
"""What AWS IoT Core takes in one SUBSCRIBE."""

MAX_INFLIGHT = 64

Handler = Callable[[str, bytes], Awaitable[None] | None]
Connected = Callable[[], Awaitable[None]]

T = TypeVar("T")

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
        form = "not of the form mqtt://[user:password@]host[:port]"
        try:
            parts = urlsplit(url)
            port = 1883 if parts.port is None else parts.port
        except ValueError as error:
            raise ValueError(f"{form}: {error}") from error
        if parts.scheme != "mqtt" or not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(form)
        if port == 0:
            raise ValueError(f"{form}: port 0 is nobody's")
        return cls(parts.hostname, port, _decoded(parts.username), _decoded(parts.password))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtt://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when this session ends without a word."""

    topic: str
    payload: bytes


def delay_before(attempt: int, randomness: float) -> float:
    """Seconds before reconnect `attempt`, from 0: capped exponential backoff, full jitter; `randomness` in [0, 1)."""
    return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(attempt, 20)) * randomness)


@dataclass(slots=True)
class _Session:
    """One connection. Whoever waits for the broker's answer is let go as soon as the connection is over."""

    client: aiomqtt.Client
    broker: Address
    over: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)

    async def ask(self, request: Coroutine[Any, Any, T]) -> T:
        """The broker's answer. Raises Offline; a request that gets none ends the session, so that `run` reconnects."""
        asking = asyncio.ensure_future(request)
        try:
            await asyncio.wait((asking, self.over), return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                return asking.result()
        except aiomqtt.MqttError as error:
            self.end()
            raise Offline(f"connection to {self.broker} lost") from error
        finally:
            asking.cancel()
        raise Offline(f"connection to {self.broker} lost")

    async def subscribe(self, topics: Iterable[str]) -> None:
        for some in _portions(topics):
            codes = await self.ask(self.client.subscribe([(topic, QOS) for topic in some]))
            refused = [topic for topic, code in zip(some, codes, strict=False) if code == REFUSED]
            if refused:
                log.warning("broker refuses a subscription", broker=str(self.broker), topics=refused)

    async def unsubscribe(self, topics: Iterable[str]) -> None:
        for some in _portions(topics):
            await self.ask(self.client.unsubscribe(some))


class Link:
    """Messages to and from one broker, for as long as `run` runs."""

    def __init__(self, address: Address, client_id: str, will: Will | None = None) -> None:
        self._address = address
        self._client_id = client_id
        self._will = will
        self._handlers: dict[str, Handler] = {}
        self._session: _Session | None = None
        self._on_connect: list[Connected] = []
        self._inbox: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self.connected = asyncio.Event()

    def on_connect(self, action: Connected) -> None:
        """Have `action` awaited after every later connect, once the subscriptions stand.

        An action whose connection is lost is called again after the next connect, with all others.
        """
        self._on_connect.append(action)

    async def subscribe(self, handler: Handler, *topics: str) -> None:
        """Give what arrives on `topics` (wildcards allowed) to `handler`, now and after every reconnect.

        Handlers run one after the other, in the order of arrival: a slow one hands its work to a task of its own.
        """
        self._handlers.update(dict.fromkeys(topics, handler))
        if self._session is not None:
            await self._attempt(self._session.subscribe(topics))

    async def unsubscribe(self, *topics: str) -> None:
        """Stop what `subscribe` began."""
        for topic in topics:
            self._handlers.pop(topic, None)
        if self._session is not None:
            await self._attempt(self._session.unsubscribe(topics))

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1; returns when the broker has acknowledged. Raises Offline, or ValueError if too large."""
        if len(payload) > MAX_MQTT_BYTES:
            raise ValueError(f"{len(payload)} bytes for {topic}: the limit is {MAX_MQTT_BYTES}")
        if self._session is None:
            raise Offline(f"not connected to {self._address}")
        await self._session.ask(self._session.client.publish(topic, payload, qos=QOS, retain=retain))

    async def run(self) -> None:
        """Connect, serve, and connect again, until cancelled."""
        dispatching = asyncio.create_task(self._dispatch_all(), name="dispatch")
        try:
            await self._connect_for_ever()
        finally:
            await _stopped(dispatching)

    async def _connect_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            connected_at = None
            try:
                async with self._new_client() as client:
                    _insist_on_cancellation()
                    connected_at = loop.time()
                    log.info("connected to broker", broker=str(self._address))
                    await self._serve(_Session(client, self._address))
            except (aiomqtt.MqttError, Offline, OSError) as error:
                event = "broker not reachable" if connected_at is None else "connection to broker lost"
                log.warning(event, broker=str(self._address), error=str(error), attempt=attempt)
            _insist_on_cancellation()
            if connected_at is not None and loop.time() - connected_at >= STEADY_S:
                attempt = 0
            await asyncio.sleep(delay_before(attempt, random.random()))  # noqa: S311 - spreads a fleet, keeps no secret
            attempt += 1

    def _new_client(self) -> aiomqtt.Client:
        will = aiomqtt.Will(self._will.topic, self._will.payload, QOS, retain=True) if self._will else None
        client = aiomqtt.Client(
            self._address.host,
            self._address.port,
            username=self._address.username,
            password=self._address.password,
            identifier=self._client_id,
            will=will,
            keepalive=KEEPALIVE_S,
            clean_session=True,
            max_inflight_messages=MAX_INFLIGHT,
        )
        client.pending_calls_threshold = MAX_INFLIGHT
        return client

    async def _serve(self, session: _Session) -> None:
        """Until the connection is over, which raises MqttError or Offline."""
        reading = asyncio.create_task(self._read(session.client), name="read")
        reading.add_done_callback(lambda _: session.end())
        try:
            await self._subscribe_all(session)
            await self._serve_subscribed(session)
            if reading.done():
                reading.result()
            raise Offline("a request was not answered")
        finally:
            await _stopped(reading)

    async def _serve_subscribed(self, session: _Session) -> None:
        self._session = session
        self.connected.set()
        greeting = asyncio.create_task(self._greet(), name="greet")
        try:
            await asyncio.wait({session.over})
        finally:
            session.end()
            self._session = None
            self.connected.clear()
            await _stopped(greeting)

    async def _subscribe_all(self, session: _Session) -> None:
        """Handlers may be added while the broker answers: until none is missing, nobody else uses the session."""
        standing: set[str] = set()
        while missing := self._handlers.keys() - standing:
            await session.subscribe(missing)
            standing |= missing

    async def _read(self, client: aiomqtt.Client) -> None:
        """Apart from the handlers, so that a lost connection is seen while one of them waits for the broker."""
        async for message in client.messages:
            payload = message.payload if isinstance(message.payload, bytes) else b""
            if len(payload) > MAX_MQTT_BYTES:
                log.warning("message over the size limit dropped", topic=str(message.topic), bytes=len(payload))
                continue
            self._inbox.put_nowait((str(message.topic), payload))

    async def _greet(self) -> None:
        for action in self._on_connect:
            try:
                await action()
            except Offline:
                return  # the next connect greets again
            except Exception:
                log.exception("greeting the broker failed")

    async def _dispatch_all(self) -> None:
        while True:
            topic, payload = await self._inbox.get()
            for pattern, handler in list(self._handlers.items()):
                if pattern == topic or topic_matches_sub(pattern, topic):
                    await self._dispatch(pattern, handler, topic, payload)

    async def _dispatch(self, pattern: str, handler: Handler, topic: str, payload: bytes) -> None:
        """One bad message must not cost the session, nor the messages after it."""
        try:
            outcome = handler(topic, payload)
            if outcome is not None:
                await outcome
        except Offline as error:
            log.debug("answer not sent", topic=topic, error=str(error))
        except Exception:
            log.exception("message could not be handled", topic=topic, subscription=pattern)

    async def _attempt(self, request: Awaitable[None]) -> None:
        """A lost connection is no error here: `run` subscribes to all handlers again."""
        try:
            await request
        except Offline as error:
            log.debug("subscription waits for the next connect", error=str(error))


def _portions(topics: Iterable[str]) -> list[list[str]]:
    ordered = list(topics)
    return [ordered[i : i + MAX_TOPICS_A_REQUEST] for i in range(0, len(ordered), MAX_TOPICS_A_REQUEST)]


def _decoded(part: str | None) -> str | None:
    return None if part is None else unquote(part)


def _insist_on_cancellation() -> None:
    """aiomqtt may swallow it: while it waits with asyncio.wait_for (before Python 3.12), or when its goodbye fails."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _stopped(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
