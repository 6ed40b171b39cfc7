"""One connection to an MQTT broker, in version 5 of the protocol where the broker speaks it, else in 3.1.1."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import unquote, urlsplit

import aiomqtt
import paho.mqtt.client as paho
import structlog
from aiomqtt import ProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from protos.topics import MAX_MQTT_BYTES

KEEPALIVE_S = 10
ANSWER_S = 10.0
GRANT_S = 30.0
"""For the answer to a subscription, which may come behind all the retained messages that it brings."""

QOS = 1
MAX_TOPICS_A_REQUEST = 8
"""What AWS IoT Core takes in one SUBSCRIBE."""

MAX_INFLIGHT = 64
MAX_PACKET_BYTES = MAX_MQTT_BYTES + 1024
"""Payload, and what topic and properties add to it."""

UNSUPPORTED_VERSION = 0x84
"""The reason code of a CONNACK; the return code 1 of MQTT 3.1.1 means the same."""

Mqtt = Literal["auto", "3.1.1", "5"]

T = TypeVar("T")

log = structlog.get_logger()


class Offline(Exception):
    """The broker cannot be reached now. What was to be said is not said; say it again after the next connect."""


class Unanswered(aiomqtt.MqttError):
    """The broker took the connection, and then nothing came: so do some with a version that they do not speak."""


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


class Client(aiomqtt.Client):
    """With what aiomqtt 2.5 does not tell: the broker's limit, what it refuses, that it hung up before it answered."""

    most_inflight = MAX_INFLIGHT

    def __init__(
        self,
        address: Address,
        name: str,
        will: Will | None,
        version: ProtocolVersion,
        come: Callable[[str, bytes], bool],
    ) -> None:
        is_5 = version is ProtocolVersion.V5
        super().__init__(
            address.host,
            address.port,
            username=address.username,
            password=address.password,
            identifier=name,
            protocol=version,
            will=aiomqtt.Will(will.topic, will.payload, QOS, retain=True) if will else None,
            keepalive=KEEPALIVE_S,
            timeout=ANSWER_S,
            clean_session=None if is_5 else True,
            properties=_limits() if is_5 else None,
            max_inflight_messages=MAX_INFLIGHT,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        self.pending_calls_threshold = 2 * MAX_INFLIGHT
        self._come = come

    async def __aenter__(self) -> Self:
        try:
            return await super().__aenter__()
        except aiomqtt.MqttCodeError:
            raise
        except aiomqtt.MqttError as error:
            raise Unanswered("the broker does not answer") if self._client.socket() else error from None
        finally:
            if not self._connected.done() or self._connected.cancelled() or self._connected.exception():
                self._hang_up()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            self._hang_up()
            if self._disconnected.done() and not self._disconnected.cancelled():
                self._disconnected.exception()  # looked at, lest asyncio reports it

    @property
    def is_lost(self) -> bool:
        """Whether the connection has ended. Of an end that came as soon as the beginning aiomqtt tells nobody."""
        return self._client.socket() is None

    def _hang_up(self) -> None:
        """A broker that answers nothing would keep the connection open for ever."""
        connection = self._client.socket()
        if isinstance(connection, socket.socket):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _on_connect(
        self,
        client: paho.Client,
        userdata: object,
        flags: paho.ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self.most_inflight = min(MAX_INFLIGHT, getattr(properties, "ReceiveMaximum", MAX_INFLIGHT))
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: object,
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if not self._connected.done():
            self._connected.set_exception(Unanswered("the broker hung up before it answered"))
        if not self._connected.cancelled():
            super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_message(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:  # noqa: ARG002 - paho calls it so
        """Handed over at once: for each message aiomqtt's own way takes a task and some switches."""
        if not self._come(message.topic, bytes(message.payload)):
            self._hang_up()

    def _on_publish(
        self, client: paho.Client, userdata: object, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        if reason_code.is_failure:
            log.warning("broker refuses a publication", reason=str(reason_code))
        super()._on_publish(client, userdata, mid, reason_code, properties)


@dataclass(slots=True)
class Session:
    """One connection. Whoever waits for the broker's answer is let go as soon as the connection is over."""

    client: Client
    broker: Address
    over: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    places: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.places = asyncio.Semaphore(self.client.most_inflight)

    def end(self) -> None:
        """Let go whoever waits."""
        if not self.over.done():
            self.over.set_result(None)

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Return when the broker has acknowledged. Never more at once than it takes."""
        async with self.places:
            await self._ask(self.client.publish(topic, payload, qos=QOS, retain=retain))

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Return when the broker has answered; what it refuses is logged."""
        await asyncio.gather(*map(self._subscribe, _portions(topics)))

    async def unsubscribe(self, topics: Iterable[str]) -> None:
        """Return when the broker has answered."""
        await asyncio.gather(*map(self._unsubscribe, _portions(topics)))

    async def _subscribe(self, topics: list[str]) -> None:
        codes: Any = await self._ask(self.client.subscribe([(topic, QOS) for topic in topics], timeout=GRANT_S))
        refused = {topic: str(code) for topic, code in zip(topics, codes, strict=False) if code.is_failure}
        if refused:
            log.warning("broker refuses a subscription", broker=str(self.broker), topics=refused)

    async def _unsubscribe(self, topics: list[str]) -> None:
        await self._ask(self.client.unsubscribe(topics, timeout=GRANT_S))

    async def _ask(self, request: Coroutine[Any, Any, T]) -> T:
        """The broker's answer. Raises Offline; a request that gets none ends the session, so that it is begun anew."""
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


def _limits() -> Any:  # noqa: ANN401 - paho's properties are attributes that are not declared
    """What the broker may send: no packet that would not be taken, and so many before they are acknowledged.

    Nothing is kept for this client when it goes, which is what is meant when no session expiry is named.
    """
    limits: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    limits.MaximumPacketSize = MAX_PACKET_BYTES
    limits.ReceiveMaximum = MAX_INFLIGHT
    return limits


def _portions(topics: Iterable[str]) -> list[list[str]]:
    ordered = list(topics)
    return [ordered[i : i + MAX_TOPICS_A_REQUEST] for i in range(0, len(ordered), MAX_TOPICS_A_REQUEST)]


def _decoded(part: str | None) -> str | None:
    return None if part is None else unquote(part)
