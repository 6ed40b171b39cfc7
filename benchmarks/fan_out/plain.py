"""What delivery is compared with: plain MQTT clients that verify and keep nothing, and plain HTTP downloads."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import aiomqtt
import httpx

from protos.kit.link import QOS, Address

TOPICS_A_REQUEST = 8
INFLIGHT = 64
"""As the link has it."""

Client = aiomqtt.Client


def client(broker: Address, name: str) -> Client:
    """A client of the library that the link uses, set up alike."""
    made = aiomqtt.Client(
        broker.host,
        broker.port,
        identifier=name,
        protocol=aiomqtt.ProtocolVersion.V5,
        max_inflight_messages=INFLIGHT,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )
    made.pending_calls_threshold = INFLIGHT
    return made


async def receive(client: Client, topics: Sequence[str]) -> float:
    """Subscribe to all topics; returns when a message of each was there."""
    for start in range(0, len(topics), TOPICS_A_REQUEST):
        await client.subscribe([(topic, QOS) for topic in topics[start : start + TOPICS_A_REQUEST]])
    missing = set(topics)
    async for message in client.messages:
        missing.discard(str(message.topic))
        if not missing:
            break
    return time.monotonic()


async def download(url: str, digest: bytes, path: Path) -> tuple[float, int]:
    """Download a file and check it; returns when that was done, and the bytes received."""
    found = hashlib.sha256()
    async with (
        httpx.AsyncClient(verify=False, timeout=None, trust_env=False) as http,
        http.stream("GET", url) as answer,
    ):
        answer.raise_for_status()
        with path.open("wb") as file:
            async for piece in answer.aiter_bytes():
                found.update(piece)
                file.write(piece)
    assert found.digest() == digest
    return time.monotonic(), answer.num_bytes_downloaded
