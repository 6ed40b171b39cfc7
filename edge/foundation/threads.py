"""Blocking work beside the event loop."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def finished(function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Call `function` in a thread. When cancelled, wait for its end first: no two threads may work on one file."""
    # As asyncio.to_thread, but without a task: what is put into a thread is often shorter than a task's switches.
    work = partial(contextvars.copy_context().run, function, *arguments, **options)
    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait({future})
        raise
