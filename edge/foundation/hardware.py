"""What this device computes with, in words for people. Two devices with the same words run a model alike."""

from __future__ import annotations

import os
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CPU_FILE = Path("/proc/cpuinfo")
NAMES = ("model name", "Model", "Hardware", "cpu model")
"""Where processors of different kinds say what they are, the most telling first."""

INTERPRETERS = ("ai-edge-litert", "tflite-runtime")


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


@cache
def described() -> str:
    """Processor, cores and interpreter."""
    try:
        text = CPU_FILE.read_text(errors="replace")
    except OSError:
        text = ""
    return f"{processor(text) or os.uname().machine}, {cores()} cores, {_interpreter()}"


def processor(cpuinfo: str) -> str:
    """The processor's name in the text of /proc/cpuinfo; empty if it does not say."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    fields = {name.strip(): " ".join(value.split()) for name, _, value in lines}
    return next((fields[name] for name in NAMES if fields.get(name)), "")


def _interpreter() -> str:
    for name in INTERPRETERS:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return "no interpreter"
