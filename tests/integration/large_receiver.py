"""A device's downloads in a process of its own: `python -m tests.integration.large_receiver PORT FOLDER`.

It fetches each artifact that is written to its standard input (one line, hex) and answers with lines of JSON: how far
it is, when a desired state arrives meanwhile, and how much memory it took.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path

from edge.delivery.entities import Limits
from edge.delivery.mqtt import Fetcher
from protos import topics
from protos.kit.link import Address, Link
from protos.v1.manifest_pb2 import Artifact
from tests.sites import running

RATE = 30_000_000


def memory(field: str) -> int:
    """Bytes, of VmRSS or VmHWM, the peak."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def say(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def forget_peak() -> int:
    """Have the peak counted from now; returns the memory of now."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


async def fetch(fetcher: Fetcher, artifact: Artifact) -> None:
    before = forget_peak()
    await fetcher.artifact(artifact, lambda present, total: say(present=present, total=total))
    say(growth=memory("VmHWM") - before)


async def main(port: int, folder: Path) -> None:
    link = Link(Address("127.0.0.1", port), "receiver")
    await link.subscribe(lambda *_: say(desired=True), topics.all_desired("receiver"))
    async with running(link):
        fetcher = Fetcher(link, {}, folder, Limits(rate=RATE))
        while line := await asyncio.to_thread(sys.stdin.readline):
            await fetch(fetcher, Artifact.FromString(bytes.fromhex(line)))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
