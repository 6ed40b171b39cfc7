"""Processes that start within milliseconds: forked by one that has imported what they need."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext

_MODULES: list[str] = []


def starting(module: str) -> ForkServerContext:
    """What starts processes whose work is in this module.

    There is one forking process for all tests of a run, and the list of what it imports is one: each adds to it.
    """
    _MODULES.append(module)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_MODULES)
    return context
