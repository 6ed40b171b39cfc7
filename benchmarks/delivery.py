"""Delivery of one model to 1 to 1,000 devices: the cloud's bytes, and the time until all have verified it.

One machine plays all parts in processes of their own: the real publisher and API, a real Mosquitto, and devices with
the real link, fetcher and files, shared out over two processes. A proxy between publisher and broker counts the cloud's
bytes, MQTT's own included. The clock starts when every device is connected and told to begin; the chunks are on the
broker by then, as in a rollout, where an order goes out after what it needs. It stops when the last device has written
and verified the whole file.

`cloud_bytes_N`: what the cloud sent for N devices; baseline: the compressed artifact.
`order_bytes_N`: beside it, each device's own signed order.
`elapsed_N`: the time; baseline: as many clients of the same library and version of MQTT that subscribe to the same
messages, manifest and chunks, and do nothing with them.
`verification_N`: processor time of all devices for hashes, signatures, unpacking and files; baseline: all that their
processes took. On a fleet each device has a processor of its own, here all share this machine's: `time_N` is
`elapsed_N` without it, spread over the processors; the same baseline. It means something only on a machine that does
nothing else meanwhile.
`processor_N`: what the devices' processes took in all; baseline: what the plain clients' processes took.
`broker_N`: the broker's processor time, which all devices share on a fleet too; baseline: for the plain clients.
`metadata_N`: beside it, the time until all devices had trust's metadata of the version, which they fetch at the news
that it was registered, before any order; baseline: the processor time that it took all of them.
`received_N`: what all devices received of chunks; baseline: the compressed artifact for each of them.
`http_bytes_N`, `http_time_N`: each device downloads the file from the API instead; baselines: `cloud_bytes_N` and
`elapsed_N`.
`loss_overhead_N`: what the cloud sent beyond the artifact when a fifth of all chunks got lost on the way to each
device, `broker_loss_overhead_N`: when the broker had forgotten a fifth of them; baseline: the compressed artifact.
Names end in `_4mb` for 4 MB, else 100 KB; losses are tried with 1.2 MB.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.fan_out.site import PROCESSES, Run, Site, Took
from benchmarks.fan_out.workers import many_connections, quiet
from benchmarks.kit.measures import Measure, Measures

FLEETS = (1, 10, 100, 1000)
SIZES = {"": 100_000, "_4mb": 4_000_000}
REPEATED = 3
"""The median of so many, unless that takes too long."""
ONCE_FROM = 1_000_000_000
"""Bytes that all devices receive together."""
LOSS = 0.2
LOSS_FLEETS = (10, 1000)
LOSS_SIZE = 1_200_000

MOST_ROOM = 12_000_000_000
"""For a thousand devices with 4 MB in part and as much unpacked, and to spare."""


def run() -> Measures:
    """All fleets, both sizes, and the losses."""
    quiet()
    many_connections()
    with tempfile.TemporaryDirectory(dir=_room()) as folder, Site(Path(folder)) as site:
        print(f"devices' files: {folder}")
        return asyncio.run(_measure(site))


def _room() -> str | None:
    """A folder in memory if it is large enough: on a fleet each device has a disk of its own."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > MOST_ROOM else None


async def _measure(site: Site) -> Measures:
    measures: dict[str, Measure] = {}
    for suffix, size in SIZES.items():
        for devices in FLEETS:
            async with site.publishing(size, devices) as run:
                measures |= await _compare(run, f"{devices}{suffix}", REPEATED if size * devices < ONCE_FROM else 1)
    for devices in LOSS_FLEETS:
        measures |= await _lose(site, devices)
    return measures


async def _compare(run: Run, name: str, times: int) -> Measures:
    """One fleet, one size, the three ways in turn."""
    rounds = [(*await run.deliver(), await run.fan_out()) for _ in range(times)]
    metadata, ours, bare = (_middle(each) for each in zip(*rounds, strict=True))
    http = await run.download()
    _tell(run, {"metadata": metadata, "delivery": ours, "bare": bare, "HTTP": http})
    goal = "<= 2.0" if run.devices == FLEETS[-1] else ""
    return {
        f"cloud_bytes_{name}": Measure(run.cloud_bytes, "bytes", run.published.travelling, "<= 1.05"),
        f"order_bytes_{name}": Measure(run.sent["desired"], "bytes", run.published.travelling),
        f"time_{name}": Measure(_apart(ours), "s", bare.seconds, goal),
        f"elapsed_{name}": Measure(ours.seconds, "s", bare.seconds),
        f"metadata_{name}": Measure(metadata.seconds, "s", metadata.processor_s),
        f"verification_{name}": Measure(ours.verification_s, "s", ours.processor_s),
        f"processor_{name}": Measure(ours.processor_s, "s", bare.processor_s),
        f"broker_{name}": Measure(ours.broker_s, "s", bare.broker_s),
        f"received_{name}": Measure(ours.received_bytes, "bytes", run.devices * run.published.travelling),
        f"http_bytes_{name}": Measure(http.received_bytes, "bytes", run.cloud_bytes),
        f"http_time_{name}": Measure(http.seconds, "s", ours.seconds),
    }


def _apart(took: Took) -> float:
    """The time without the processor time of verification, spread over the processors there were."""
    return took.seconds - took.verification_s / min(PROCESSES, os.cpu_count() or 1)


def _tell(run: Run, ways: Mapping[str, Took]) -> None:
    published = run.published
    print(
        f"{published.size / 1e6:g} MB ({published.travelling:,} bytes compressed) to {run.devices}: "
        f"sent {run.cloud_bytes:,} bytes, on the broker after {published.seconds:.2f} s; "
        f"HTTP {ways['HTTP'].received_bytes:,}",
        flush=True,
    )
    for way, took in ways.items():
        print(
            f"  {way:9}{took.seconds:8.3f} s; processor: broker {took.broker_s:.2f} s, "
            f"receivers {took.processor_s:.2f} s, of it verification {took.verification_s:.2f} s",
            flush=True,
        )


async def _lose(site: Site, devices: int) -> Measures:
    """Losses on the way to the devices, and at the broker."""
    measures = {}
    for kind in ("loss_overhead", "broker_loss_overhead"):
        async with site.publishing(LOSS_SIZE, devices) as run:
            if kind == "broker_loss_overhead":
                await run.lose_at_the_broker(LOSS)
            _, took = await run.deliver(LOSS if kind == "loss_overhead" else 0.0)
            artifact = run.published.travelling
            overhead = Measure(run.cloud_bytes - artifact, "bytes", artifact, "<= 0.4")
            received = took.received_bytes / devices / artifact
            print(f"{kind} {devices}: {overhead.ratio:.0%}, {took.seconds:.1f} s, received {received:.2f} times")
            measures[f"{kind}_{devices}"] = overhead
    return measures


def _middle(took: Sequence[Took]) -> Took:
    return sorted(took, key=lambda each: each.seconds)[len(took) // 2]
