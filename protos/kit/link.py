"""One process's session with an MQTT broker: reconnects for ever, subscribes again, hands each message to its handlers.

The broker is never trusted to remember anything: after each connect the owner is told, and says again what must hold.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import aiomqtt
import structlog
from paho.mqtt.client import topic_matches_sub

from protos.kit.address import Address
from protos.kit.client import KEEPALIVE_S, QOS, Client, Offline, Will
from protos.kit.session import Mqtt, Session, Versions
from protos.topics import MAX_MQTT_BYTES

__all__ = ["KEEPALIVE_S", "QOS", "Address", "Link", "Mqtt", "Offline", "Will"]

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 30.0
STEADY_S = 5.0
"""A session that lasted this long was a good one: the next reconnect starts with the shortest delay again."""

MOST_WAITING_BYTES = 64 * 1024 * 1024
"""Of messages that the handlers have not taken yet. A broker that sends more than was asked for cannot fill memory."""

Handler = Callable[[str, bytes], Awaitable[None] | None]
Connected = Callable[[], Awaitable[None]]

log = structlog.get_logger()


def delay_before(attempt: int, randomness: float) -> float:
    """Seconds before reconnect `attempt`, from 0: capped exponential backoff, full jitter; `randomness` in [0, 1)."""
    return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(attempt, 20)) * randomness)


class Link:
    """Messages to and from one broker, for as long as `run` runs."""

    def __init__(self, address: Address, client_id: str, will: Will | None = None, mqtt: Mqtt = "auto") -> None:
        self._address = address
        self._client_id = client_id
        self._will = will
        self._versions = Versions(mqtt)
        self._handlers: dict[str, Handler] = {}
        self._session: Session | None = None
        self._on_connect: list[Connected] = []
        self._inbox: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self._waiting_bytes = 0
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

    def unsubscribe(self, *topics: str) -> None:
        """Stop what `subscribe` began: no handler is called any more. The broker is told soon, of many at once."""
        for topic in topics:
            self._handlers.pop(topic, None)
        if self._session is not None:
            self._session.unsubscribe(topics)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1; returns when the broker has acknowledged. Raises Offline, or ValueError if too large."""
        if len(payload) > MAX_MQTT_BYTES:
            raise ValueError(f"{len(payload)} bytes for {topic}: the limit is {MAX_MQTT_BYTES}")
        if self._session is None:
            raise Offline(f"not connected to {self._address}")
        await self._session.publish(topic, payload, retain=retain)

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
            version = self._versions.next
            try:
                async with Client(self._address, self._client_id, self._will, version, self._come) as client:
                    insist_on_cancellation()
                    connected_at = loop.time()
                    self._versions.connected()
                    log.info("connected to broker", broker=str(self._address), mqtt=version.name)
                    await self._serve(Session(client, self._address, self._part))
            except (aiomqtt.MqttError, Offline, OSError) as error:
                event = "broker not reachable" if connected_at is None else "connection to broker lost"
                log.warning(event, broker=str(self._address), error=_reason(error), attempt=attempt, mqtt=version.name)
                if connected_at is None and self._versions.failed(error):
                    continue
            insist_on_cancellation()
            if connected_at is not None and loop.time() - connected_at >= STEADY_S:
                attempt = 0
            await asyncio.sleep(delay_before(attempt, random.random()))  # noqa: S311 - spreads a fleet, keeps no secret
            attempt += 1

    async def _serve(self, session: Session) -> None:
        """Until the connection is over, which raises MqttError or Offline."""
        if session.client.is_lost:
            raise Offline("the broker hung up")
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

    async def _serve_subscribed(self, session: Session) -> None:
        if session.over.done():
            return
        self._session = session
        self.connected.set()
        greeting = asyncio.create_task(self._greet(), name="greet")
        try:
            await asyncio.wait({session.over})
        finally:
            session.end()
            await _stopped(greeting)

    def _part(self) -> None:
        """At once: who is told Offline, and waits until connected, would else try again and again and leave no turn."""
        self._session = None
        self.connected.clear()

    async def _subscribe_all(self, session: Session) -> None:
        """Handlers may be added while the broker answers: until none is missing, nobody else uses the session."""
        standing: set[str] = set()
        while missing := self._handlers.keys() - standing:
            await session.subscribe(missing)
            standing |= missing

    async def _read(self, client: Client) -> None:
        """Until the connection is lost, which raises MqttError. What comes goes to `_come` at once."""
        async for _ in client.messages:
            pass

    def _come(self, topic: str, payload: bytes) -> bool:
        """Apart from the handlers, so that a lost connection is seen while one of them waits for the broker.

        Returns whether the broker may go on.
        """
        if len(payload) > MAX_MQTT_BYTES:
            log.warning("message over the size limit dropped", topic=topic, bytes=len(payload))
            return True
        if self._waiting_bytes + len(payload) > MOST_WAITING_BYTES:
            log.warning("the broker sends more than can be taken", broker=str(self._address))
            return False
        self._waiting_bytes += len(payload)
        self._inbox.put_nowait((topic, payload))
        return True

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
            self._waiting_bytes -= len(payload)
            for pattern, handler in list(self._handlers.items()):
                if pattern == topic or (_has_wildcard(pattern) and topic_matches_sub(pattern, topic)):
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


def _has_wildcard(pattern: str) -> bool:
    """Matching costs far more than this question, and a window of chunks is that many patterns without one."""
    return "+" in pattern or "#" in pattern


def _reason(error: Exception) -> str:
    """What the broker said at last, if it said anything."""
    return f"{error}: {error.__cause__}" if error.__cause__ else str(error)


def insist_on_cancellation() -> None:
    """Raise CancelledError if this task was told to end.

    aiomqtt may swallow it: while it waits with asyncio.wait_for (before Python 3.12), or when its goodbye fails.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _stopped(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
