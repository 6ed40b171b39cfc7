"""An onlooker at a broker: subscribes, never publishes, and loses count of nothing.

MQTT 5 where the broker has it: only there a subscriber learns which messages were published to be retained.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType

import aiomqtt
import structlog
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from cloud.delivery.crossings import Crossing
from protos.kit.link import KEEPALIVE_S, QOS, Address, delay_before, insist_on_cancellation

MAX_WAITING = 10_000
MAX_WAITING_BYTES = 16 * 1024 * 1024
"""What may wait to be shown; what comes beyond it is counted and dropped."""
CONNECT_S = 10.0
UNSUPPORTED_VERSION = 132
REFUSED = 0x80
"""From this on the codes of a SUBACK are refusals."""

log = structlog.get_logger()


class Unreachable(Exception):
    """There is nothing to watch; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A crossing, and when it came in seconds of Unix time."""

    at_s: float
    crossing: Crossing


class Watch:
    """Crossings on one broker, as an async context manager that waits for the subscription. Raises Unreachable.

    After a lost connection it connects again, and the broker repeats what it keeps.
    """

    def __init__(self, address: Address, pattern: str, qos: int = QOS) -> None:
        self.missed = 0
        """Messages that came faster than they were taken."""
        self._address = address
        self._pattern = pattern
        self._qos = qos
        self._version = aiomqtt.ProtocolVersion.V5
        self._waiting: deque[Seen] = deque()
        self._waiting_bytes = 0
        self._news = asyncio.Event()
        self._subscribed = False
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Watch:
        self._running = asyncio.create_task(self._run(), name="watch")
        self._running.add_done_callback(lambda _: self._news.set())
        while not self._subscribed:
            try:
                await self._wait()
            except BaseException:
                await self._end()
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def take(self) -> list[Seen]:
        """All that has come since the last time, in order; waits for the first."""
        while not self._waiting:
            await self._wait()
        taken = list(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        return taken

    async def _wait(self) -> None:
        assert self._running is not None
        if self._running.done():
            self._running.result()
        self._news.clear()
        await self._news.wait()

    async def _end(self) -> None:
        assert self._running is not None
        self._running.cancel()
        await asyncio.wait({self._running}, timeout=CONNECT_S)

    async def _run(self) -> None:
        attempt = 0
        while True:
            try:
                async with self._client() as client:
                    await self._subscribe(client)
                    attempt = 0
                    await self._read(client)
            except aiomqtt.MqttError as error:
                insist_on_cancellation()
                if self._steps_down(error):
                    continue
                if not self._subscribed:
                    raise Unreachable(f"the broker {self._address} cannot be reached: {error}") from error
                log.warning("connection to broker lost", broker=str(self._address), error=str(error))
            insist_on_cancellation()
            await asyncio.sleep(delay_before(attempt, random.random()))  # noqa: S311 - jitter
            attempt += 1

    def _client(self) -> aiomqtt.Client:
        return aiomqtt.Client(
            self._address.host,
            self._address.port,
            username=self._address.username,
            password=self._address.password,
            identifier=f"littoral-watch-{secrets.token_hex(4)}",
            protocol=self._version,
            timeout=CONNECT_S,
            keepalive=KEEPALIVE_S,
        )

    def _steps_down(self, error: aiomqtt.MqttError) -> bool:
        """Whether the broker does not speak MQTT 5, so that the older version is tried next."""
        code = error.rc if isinstance(error, aiomqtt.MqttCodeError) else None
        if self._has_mqtt5 and isinstance(code, ReasonCode) and code.value == UNSUPPORTED_VERSION:
            self._version = aiomqtt.ProtocolVersion.V311
            return True
        return False

    @property
    def _has_mqtt5(self) -> bool:
        return self._version is aiomqtt.ProtocolVersion.V5

    async def _subscribe(self, client: aiomqtt.Client) -> None:
        if self._has_mqtt5:
            options = SubscribeOptions(qos=self._qos, retainAsPublished=True)
            codes = await client.subscribe(self._pattern, options=options)
        else:
            codes = await client.subscribe(self._pattern, qos=self._qos)
        if any((code.value if isinstance(code, ReasonCode) else code) >= REFUSED for code in codes):
            raise Unreachable(f"the broker {self._address} does not let us subscribe to {self._pattern!r}")
        self._subscribed = True
        self._news.set()

    async def _read(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            payload = message.payload if isinstance(message.payload, bytes) else b""
            # The older MQTT shows the flag only on what was kept before the subscription.
            retained = message.retain if self._has_mqtt5 else message.retain or None
            self._keep(Crossing(str(message.topic), payload, message.qos, retained))

    def _keep(self, crossing: Crossing) -> None:
        size = len(crossing.payload)
        if len(self._waiting) >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES:
            self.missed += 1
            return
        self._waiting.append(Seen(time.time(), crossing))
        self._waiting_bytes += size
        self._news.set()
