"""People on the device and their agent, over Unix sockets: one tells its status, one takes orders, both in JSON."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

STATUS_SOCKET = "status.sock"
ORDERS_SOCKET = "orders.sock"
MAX_BYTES = 64 * 1024
TIMEOUT_S = 5.0
ORDER_S = 120.0
"""An order may start a model's process on a slow device."""

RETRY_S = 60.0

log = structlog.get_logger()

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Order = Callable[[], Awaitable[Mapping[str, object]]]


class NoAnswer(Exception):
    """No agent answers on this socket."""


class Refused(Exception):
    """The agent cannot do what it was told. Nothing has changed; the message says why."""


async def serve(path: Path, describe: Callable[[], Mapping[str, object]]) -> None:
    """Answer until cancelled. The caller owns the folder: a socket that a killed agent left behind is replaced.

    An agent works without it: where there can be no socket now, it is tried again later.
    """

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(json.dumps(describe()).encode())
        writer.close()

    await _listen(path, answer, mode=0o777)


async def take_orders(path: Path, orders: Mapping[str, Order]) -> None:
    """Carry out `orders`, named by a connection's one line of JSON {"order": name}, until cancelled.

    The answer is {"done": what the order returned} or {"problem": text}. Only the agent's own user may connect.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(json.dumps(await _carried_out(reader, orders)).encode())
        writer.close()

    await _listen(path, answer, mode=0o600)


async def _carried_out(reader: asyncio.StreamReader, orders: Mapping[str, Order]) -> Mapping[str, object]:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            order = orders[json.loads(await reader.readline())["order"]]
    except (TimeoutError, ValueError, KeyError, TypeError, OSError) as error:
        return {"problem": f"no order that this agent knows: {error!r}"}
    try:
        return {"done": await order()}
    except (Refused, OSError) as error:
        return {"problem": str(error)}


async def _listen(path: Path, talk: Talk, mode: int) -> None:
    while True:
        try:
            async with await asyncio.start_unix_server(talk, sock=_bound(path, mode)) as server:
                await server.serve_forever()
        except OSError as error:
            log.warning("people on the device are not answered", socket=str(path), error=str(error))
            await asyncio.sleep(RETRY_S)
        finally:
            _remove(path)


def _bound(path: Path, mode: int) -> socket.socket:
    """A socket that was never open to more than `mode` allows."""
    _remove(path)
    bound = socket.socket(socket.AF_UNIX)
    before = os.umask(0o777 & ~mode)
    try:
        bound.bind(str(path))
    except OSError:
        bound.close()
        raise
    finally:
        os.umask(before)
    return bound


def ask(path: Path) -> dict[str, Any]:
    """The status of the agent behind `path`. Raises NoAnswer."""
    return _asked(path, b"", TIMEOUT_S)


def order(path: Path, name: str) -> dict[str, Any]:
    """What came of an order to the agent behind `path`. Raises NoAnswer, or Refused."""
    answer = _asked(path, json.dumps({"order": name}).encode() + b"\n", ORDER_S)
    if "problem" in answer:
        raise Refused(str(answer["problem"]))
    return dict(answer["done"])


def _asked(path: Path, question: bytes, timeout_s: float) -> dict[str, Any]:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(path))
            if question:  # even of no bytes a message fails where the status is told and the door closed already
                connection.sendall(question)
            answer = json.loads(b"".join(iter(lambda: connection.recv(MAX_BYTES), b"")))
    except (OSError, ValueError) as error:
        raise NoAnswer(f"no agent answers on {path}: {error}") from error
    if not isinstance(answer, dict):
        raise NoAnswer(f"what answers on {path} is no agent")
    return answer


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
