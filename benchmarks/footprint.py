"""What the agent takes of a device: memory under load, time to its first result, room on the disk.

An agent in a process of its own serves the MNIST model, with frames from a source on its socket as fast as it takes
them, and an ingest that acknowledges all at once.

`memory_mb` is what agent and model's process take together at the end of the load (PSS: what several processes share
counts by share; the baseline counts it whole in each, so it is more than a device would see). `growth_mb` is how much
the median of the load's last third is above that of the one before. `first_result_s` is from the start of the agent's
process to its first durable result; its baseline is the interpreter's own, imports included. `installed_mb` are the
packages of `pip install '.[edge]'` without Littoral itself, a megabyte, and without compiled Python.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.kit.measures import Measure, Measures
from benchmarks.on_device import footprint, models, running
from benchmarks.on_device.footprint import MEGABYTE, Memory
from benchmarks.on_device.models import Subject

MINUTES = 2.0
STARTS = 5
SAMPLES = 120
FRAMES = 250
"""In a message of the source."""

_BARE = """
import sys
from edge.inference.engine import Interpreter
interpreter = Interpreter(model_path=sys.argv[1])
interpreter.allocate_tensors()
interpreter.invoke()
"""


def run(minutes: float = MINUTES) -> Measures:
    """Measure starts, then memory for so long."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".benchmark-") as folder:  # on a disk, not in memory
        return asyncio.run(_run(Path(folder), minutes))


async def _run(folder: Path, minutes: float) -> Measures:
    print("making the model")
    subject = models.make(folder)["mnist"]
    device = folder / "device"
    running.prepare(device, subject)
    starts = [await _start(device, subject) for _ in range(STARTS)]
    bare = [await asyncio.to_thread(_bare_start, subject) for _ in range(STARTS)]
    taken, rate = await under_load(device, subject, minutes)
    print(f"{rate:,.0f} results/s over {minutes:g} minutes")
    end, before = taken[-len(taken) // 3 :], taken[-2 * len(taken) // 3 : -len(taken) // 3]
    installed = footprint.installed_bytes("edge") / MEGABYTE
    return {
        "memory_mb": Measure(_mb(end), "MB", statistics.median(m.rss for m in end) / MEGABYTE, "value <= 120"),
        "growth_mb": Measure(_mb(end) - _mb(before), "MB", _mb(before), "value <= 2"),
        "first_result_s": Measure(statistics.median(starts), "s", statistics.median(bare), "value <= 2"),
        "installed_mb": Measure(installed, "MB", 0.0, "value <= 250"),
    }


async def under_load(
    device: Path, subject: Subject, minutes: float, samples: int = SAMPLES
) -> tuple[list[Memory], float]:
    """What the agent of the prepared folder takes, at so many moments of a load; and the results a second."""
    feed, taken = running.Feed(device, subject.frames(FRAMES)), list[Memory]()
    async with running.ingest() as uplink:
        with running.agent(device, uplink) as agent:
            await feed.first(agent)
            feeding, started, settled = asyncio.create_task(feed.run()), time.perf_counter(), feed.settled
            for _ in range(samples):
                await asyncio.sleep(minutes * 60 / samples)
                taken.append(footprint.memory(agent.pid))
            rate = (feed.settled - settled) / (time.perf_counter() - started)
            feeding.cancel()
            await asyncio.wait({feeding})
            if not feeding.cancelled():
                feeding.result()
    return taken, rate


async def _start(device: Path, subject: Subject) -> float:
    """Seconds from the start of the agent's process to its first durable result."""
    feed = running.Feed(device, subject.frames(1))
    started = time.perf_counter()
    with running.agent(device, running.NOBODY) as agent:
        await feed.first(agent)
        return time.perf_counter() - started


def _bare_start(subject: Subject) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", _BARE, str(subject.path)], check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def _mb(taken: list[Memory]) -> float:
    return statistics.median(memory.pss for memory in taken) / MEGABYTE
