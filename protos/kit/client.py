"""aiomqtt's client, with what it does not tell, and with less between a request and the broker's answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiomqtt
import paho.mqtt.client as paho
import structlog
from aiomqtt import ProtocolVersion
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from protos.kit.address import Address
from protos.topics import MAX_MQTT_BYTES

KEEPALIVE_S = 10
ANSWER_S = 10.0
"""For the broker's answer to a connection."""

QOS = 1
MAX_INFLIGHT = 64
MAX_PACKET_BYTES = MAX_MQTT_BYTES + 1024
"""Payload, and what topic and properties add to it."""

log = structlog.get_logger()


class Offline(Exception):
    """The broker cannot be reached now. What was to be said is not said; say it again after the next connect."""


class Unanswered(aiomqtt.MqttError):
    """The broker took the connection, and then nothing came: so do some with a version that they do not speak."""


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when this session ends without a word."""

    topic: str
    payload: bytes


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
        self._come = come
        self._awaited: dict[int, asyncio.Future[Sequence[ReasonCode]]] = {}
        self._awaits_room = False
        self._options: Any = SubscribeOptions(QOS) if is_5 else QOS

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

    def ask_subscribe(self, topics: Sequence[str]) -> asyncio.Future[Sequence[ReasonCode]]:
        """What the broker answers for each topic, or Offline."""
        return self._asked(*self._client.subscribe([(topic, self._options) for topic in topics]))

    def ask_publish(self, topic: str, payload: bytes, *, retain: bool) -> asyncio.Future[Sequence[ReasonCode]]:
        """The broker has it once this is done, if not by Offline."""
        info = self._client.publish(topic, payload, QOS, retain)
        return self._asked(info.rc, info.mid)

    def tell_unsubscribe(self, topics: Sequence[str]) -> None:
        """What follows on this connection comes after it at the broker, so that nobody need wait for its answer."""
        self._client.unsubscribe(list(topics))

    def let_go(self) -> None:
        """No more answers come: whoever waits for one gets Offline."""
        awaited, self._awaited = self._awaited, {}
        for answer in awaited.values():
            if not answer.done():
                answer.set_exception(Offline("the connection is lost"))

    def _asked(self, error: MQTTErrorCode, mid: int | None) -> asyncio.Future[Sequence[ReasonCode]]:
        answer: asyncio.Future[Sequence[ReasonCode]] = self._loop.create_future()
        if error != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            answer.set_exception(Offline(paho.error_string(error)))
        else:
            self._awaited[mid] = answer
        return answer

    def _answered(self, mid: int, codes: Sequence[ReasonCode]) -> None:
        answer = self._awaited.pop(mid, None)
        if answer and not answer.done():
            answer.set_result(codes)

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

    def _on_subscribe(
        self,
        client: paho.Client,  # noqa: ARG002 - paho calls it so, here and below
        userdata: object,  # noqa: ARG002
        mid: int,
        reason_codes: list[ReasonCode],
        properties: Properties | None = None,  # noqa: ARG002
    ) -> None:
        self._answered(mid, reason_codes)

    def _on_unsubscribe(self, *_: object) -> None:
        """Nobody waits for it."""

    def _on_publish(
        self,
        client: paho.Client,  # noqa: ARG002
        userdata: object,  # noqa: ARG002
        mid: int,
        reason_code: ReasonCode,
        properties: Properties,  # noqa: ARG002
    ) -> None:
        if reason_code.is_failure:
            log.warning("broker refuses a publication", reason=str(reason_code))
        self._answered(mid, [reason_code])

    def _on_socket_register_write(self, client: paho.Client, userdata: object, sock: paho.SocketLike) -> None:  # noqa: ARG002
        """Written when this turn of the loop is over: aiomqtt's way there is a pipe, the selector and another turn."""
        if self._connected.done():
            self._loop.call_soon(self._write, userdata, sock)
        else:  # by the thread that connects
            self._write_when_there_is_room(userdata, sock)

    def _write(self, userdata: object, sock: paho.SocketLike) -> None:
        try:
            self._client.loop_write()
        except Exception as error:  # noqa: BLE001 - as aiomqtt does: whatever it is, the connection is over
            if not self._disconnected.done():
                self._disconnected.set_exception(error)
        if self._client.want_write() and self._client.socket() is not None:
            self._write_when_there_is_room(userdata, sock)

    def _write_when_there_is_room(self, userdata: object, sock: paho.SocketLike) -> None:
        self._awaits_room = True
        super()._on_socket_register_write(self._client, userdata, sock)

    def _on_socket_unregister_write(self, client: paho.Client, userdata: object, sock: paho.SocketLike) -> None:
        if self._awaits_room:
            self._awaits_room = False
            super()._on_socket_unregister_write(client, userdata, sock)


def _limits() -> Any:  # noqa: ANN401 - paho's properties are attributes that are not declared
    """What the broker may send: no packet that would not be taken, and so many before they are acknowledged.

    Nothing is kept for this client when it goes, which is what is meant when no session expiry is named.
    """
    limits: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    limits.MaximumPacketSize = MAX_PACKET_BYTES
    limits.ReceiveMaximum = MAX_INFLIGHT
    return limits
