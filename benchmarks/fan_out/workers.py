"""A process that holds one object and does what it is asked: its coroutines, by name, one after the other."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import resource
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import structlog

MOSQUITTO_PATH = "/usr/sbin"
END = "end"


class Failed(Exception):
    """What the process could not do, with its traceback."""


class Worker(AbstractContextManager["Worker"]):
    """`made` is called in a new process, `ask` calls a coroutine of what it returned; it ends with the block."""

    def __init__(self, made: Callable[[], object]) -> None:
        context = multiprocessing.get_context("spawn")
        self._channel, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, made), daemon=True)
        self._process.start()
        theirs.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.send((END, ()))
        self._process.join(10)
        self._process.kill()

    async def ask(self, name: str, *arguments: object) -> Any:  # noqa: ANN401 - whatever the coroutine returns
        """What the coroutine `name` comes to. Raises Failed."""
        self._channel.send((name, arguments))
        problem, answer = await asyncio.to_thread(self._channel.recv)
        if problem:
            raise Failed(problem)
        return answer


def many_connections() -> None:
    """Have this process and its children open as many files as the system lets them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.environ["PATH"] += os.pathsep + MOSQUITTO_PATH


def quiet() -> None:
    """Have this process tell of nothing less than an error, and asyncio of no connection that broke in a write."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    logging.getLogger("mqtt").setLevel(logging.CRITICAL)


def _serve(channel: Connection, made: Callable[[], object]) -> None:
    quiet()
    asyncio.run(_obey(channel, made))


async def _obey(channel: Connection, made: Callable[[], object]) -> None:
    held, loop = made(), asyncio.get_running_loop()
    waiting = ThreadPoolExecutor(1)
    while True:
        name, arguments = await loop.run_in_executor(waiting, channel.recv)
        if name == END:
            return
        try:
            channel.send(("", await getattr(held, name)(*arguments)))
        except Exception:  # noqa: BLE001 - the other process is told
            channel.send((traceback.format_exc(), None))
