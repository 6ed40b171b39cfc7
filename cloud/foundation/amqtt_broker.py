"""amqtt (MQTT 3.1.1, pure Python) as the embedded broker, with what 0.12.1 gets wrong put right.

Found by reading and by tests/integration/test_embedded_broker.py, which fails on the bare class:
- On every connect it sends the new client, at QoS 0, the retained messages of *everybody's* subscriptions; if another
  client subscribes meanwhile, the loop over the dictionary raises and the new client is never served.
- Retained messages are sent inside the loop that serves the subscriber, which stands still until all are acknowledged.
- A second connection with the same client id leaves the first one open; its last will comes at any later time.
- A client that falls silent is never disconnected: the read timeout does nothing.
- A packet may be of any size up to 256 MB.
- A CONNECT of MQTT 5 is read to its end as if it were of 3.1.1, and its client waits for an answer in vain.
- `shutdown` closes the listeners last, so that a client that reconnects meanwhile keeps it waiting.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from amqtt.adapters import ReaderAdapter, StreamReaderAdapter, StreamWriterAdapter, WriterAdapter
from amqtt.broker import Broker
from amqtt.errors import BrokerError
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import Session

__all__ = ["BrokerError", "EmbeddedBroker"]

CONNECT = 0x10
NEWEST_LEVEL = 4
"""The protocol level of MQTT 3.1.1; that of MQTT 5 is 5."""
LEVEL_REFUSED = bytes([0x20, 2, 0, 1])
"""A CONNACK that says so, in a form that clients of both versions understand."""

SILENCE_S = 5
"""Seconds beyond its keep-alive after which a silent client is gone."""


class EmbeddedBroker(Broker):  # type: ignore[misc] # amqtt comes without types
    """A broker open to every client on `bind` ("host:port") that takes no packet over `max_packet_bytes`."""

    def __init__(self, bind: str, max_packet_bytes: int) -> None:
        self._max_packet_bytes = max_packet_bytes
        # What it logs as an error is a client that went away; what fails for the broker itself is raised.
        logging.getLogger("amqtt").setLevel(logging.CRITICAL)
        super().__init__(
            {
                "listeners": {"default": {"type": "tcp", "bind": bind}},
                "timeout_disconnect_delay": SILENCE_S,
                # Only this one: the default ones log each packet and publish $SYS.
                "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            }
        )

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """Serve one client, reading no packet over the limit; one of MQTT 5 is told to use 3.1.1."""
        head = await _head(reader)
        if head and head[0] == CONNECT and head[-1] > NEWEST_LEVEL:
            writer.write(LEVEL_REFUSED)
            writer.close()
            return
        await self._client_connected(
            listener_name, _BoundedReader(reader, self._max_packet_bytes, head), StreamWriterAdapter(writer)
        )

    async def shutdown(self) -> None:
        """Take no more clients, then end those that are there."""
        for server in self._servers.values():
            server.instance.close()
        await super().shutdown()

    async def _initialize_client_session(
        self, reader: ReaderAdapter, writer: WriterAdapter, remote_address: str, remote_port: int
    ) -> tuple[BrokerProtocolHandler, Session]:
        handler, session = await super()._initialize_client_session(reader, writer, remote_address, remote_port)
        handler.handle_read_timeout = lambda: asyncio.ensure_future(handler.handle_connection_closed())
        return handler, session

    async def _delete_session(self, client_id: str) -> None:
        """The same client is here again: its former connection ends, and its will is published first."""
        _, former = self._sessions.get(client_id, (None, None))
        await super()._delete_session(client_id)
        if former is not None:
            await former.handle_connection_closed()

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        """Start sending, and return without giving way: the callers' loops must not."""
        topic_filter, qos = subscription
        if any(subscriber is session for subscriber, _ in self._subscriptions.get(topic_filter, ())):
            handler = self._get_handler(session)
            for retained in self._matching(topic_filter):
                delivery = handler.mqtt_publish(retained.topic, retained.data, min(qos, retained.qos or 0), retain=True)
                self._tasks_queue.append(asyncio.ensure_future(delivery))

    def _matching(self, topic_filter: str) -> list[Any]:
        if "#" in topic_filter or "+" in topic_filter:
            return [kept for topic, kept in self._retained_messages.items() if self._matches(topic, topic_filter)]
        exact = self._retained_messages.get(topic_filter)
        return [exact] if exact else []


class _BoundedReader(StreamReaderAdapter):  # type: ignore[misc] # amqtt comes without types
    """Ends the connection instead of reading more at once than a packet may have. head: what was read already."""

    def __init__(self, reader: asyncio.StreamReader, limit: int, head: bytes) -> None:
        super().__init__(reader)
        self._limit = limit
        self._head = head

    async def read(self, n: int = -1) -> bytes:
        if n > self._limit:
            self._reader = _ended()
        if not self._head or n < 0:
            return bytes(await super().read(n))
        part, self._head = self._head[:n], self._head[n:]
        return part + bytes(await super().read(n - len(part))) if len(part) < n else part


async def _head(reader: asyncio.StreamReader) -> bytes:
    """A client's first bytes: kind and length of its CONNECT, the protocol's name and level; less if it ends before."""
    head = b""
    try:
        head += await reader.readexactly(2)
        while head[-1] & 0x80 and len(head) < 5:  # noqa: PLR2004 - a length has at most four bytes
            head += await reader.readexactly(1)
        return head + await reader.readexactly(len(b"\0\4MQTT") + 1)
    except (asyncio.IncompleteReadError, ConnectionError):
        return head


def _ended() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_eof()
    return reader
