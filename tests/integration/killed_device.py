"""A device's whole update, from the deployment to the committed model, to be killed anywhere: real code, real broker.

Only its data folder outlives it. The golden vectors run in its own process, so that one process makes all the calls.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.agent import holding
from edge.delivery import partial, rules, transfer
from edge.delivery.mqtt import Fetcher
from edge.delivery.partial import Partial
from edge.inference.service import Inference
from edge.models.service import ModelStore
from edge.update import rules as update_rules
from edge.update import trial
from edge.update.entities import Proof, Target
from edge.update.memory import Memory
from edge.update.prover import NotProved
from edge.update.service import Updater
from edge.update.steps import Limits, Steps
from edge.uplink.outbox import Outbox
from protos import topics
from protos.kit import envelope
from protos.kit.children import bound_to
from protos.kit.link import Address, Link
from protos.v1.manifest_pb2 import COMPRESSION_ZSTD, Artifact, ChunkRef, Manifest
from tests import tiny_models
from tests.sites import Site, running

KEY = Ed25519PrivateKey.generate()
TRUSTED = {envelope.key_id(KEY.public_key()): KEY.public_key()}
SLOT = topics.DEFAULT_SLOT
CHUNK = 4096
SYNC_EVERY_BYTES = 2 * CHUNK
NOISE_BYTES = 6 * CHUNK
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Version:
    """A model version as the cloud would publish it, in several chunks. Its number is also its generation."""

    number: int
    file: bytes
    chunks: list[bytes]
    payload: bytes

    @classmethod
    def make(cls, number: int) -> Version:
        """Noise after the model's bytes: it does not compress, and the interpreter does not look at it."""
        model = tiny_models.int8(tiny_models.weights() * (1 - number / 10))
        file = model + np.random.default_rng(number).bytes(NOISE_BYTES)
        travelling = zstandard.compress(file)
        chunks = [travelling[start : start + CHUNK] for start in range(0, len(travelling), CHUNK)]
        manifest = tiny_models.manifest({"int8": file}, version=number)
        manifest.variants[0].artifact.CopyFrom(
            Artifact(
                digest=hashlib.sha256(file).digest(),
                size=len(file),
                compression=COMPRESSION_ZSTD,
                chunks=[ChunkRef(digest=hashlib.sha256(chunk).digest(), size=len(chunk)) for chunk in chunks],
            )
        )
        return cls(number, file, chunks, manifest.SerializeToString())

    @property
    def artifact(self) -> Artifact:
        return Manifest.FromString(self.payload).variants[0].artifact

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.payload).digest()

    @property
    def target(self) -> Target:
        now_ms = time.time_ns() // 1_000_000
        return Target(SLOT, "tiny", self.number, self.digest, self.number, now_ms, now_ms + DAY_MS, "")

    async def publish(self, link: Link) -> None:
        await link.connected.wait()
        signed = envelope.sign(envelope.MANIFEST, self.payload, KEY).SerializeToString()
        await link.publish(topics.manifest(self.digest), signed, retain=True)
        for index, chunk in enumerate(self.chunks):
            await link.publish(topics.chunk(self.artifact.digest, index), chunk, retain=True)


FORMER, OLD, NEW = (Version.make(number) for number in (1, 2, 3))


@dataclass
class Life:
    """What one process of the device did until its update was final."""

    came: list[int] = field(default_factory=list)
    """Chunks of the new version that the broker sent, by their index."""
    served: list[int] = field(default_factory=list)
    """Versions that answered, one after the other; 0: none did."""
    told: list[str] = field(default_factory=list)
    """Why it was delayed, in its own words."""
    state: str = ""
    failed: str = ""
    """Why it ended before its update was final: the agent would say so, and be started again."""
    log: list[str] = field(default_factory=list)


class CountingLink(Link):
    """A device's link that counts the chunks that come."""

    came: list[int]

    async def subscribe(self, handler: Callable[[str, bytes], Any], *wanted: str) -> None:
        def counted(topic: str, data: bytes) -> Any:
            if "/chunks/" in topic:
                self.came.append(topics.chunk_of(topic)[1])
            return handler(topic, data)

        await super().subscribe(counted, *wanted)


def live(folder: Path, broker: Address, wanted: Version, diary: Path) -> None:
    """One process's life with the data folder `folder`: until version `wanted` is final. Told to the file `diary`."""
    life = Life()
    structlog.configure(processors=[lambda _, level, event: _noted(life, level, event)])
    partial.SYNC_EVERY_BYTES = SYNC_EVERY_BYTES
    transfer.FIRST_PATIENCE_S = 20.0  # nothing is lost here: on a busy machine a chunk may take its time
    update_rules.FIRST_PAUSE_S = update_rules.LONGEST_PAUSE_S = 0.01
    try:
        with holding(folder, "edge-1"):
            asyncio.run(_update(folder, broker, wanted, life))
    except OSError as error:
        life.failed = str(error)
    finally:
        diary.write_text(json.dumps(vars(life)))


def _noted(life: Life, level: str, event: Any) -> Any:
    life.log.append(f"{level}: {event['event']}")
    raise structlog.DropEvent


async def _update(folder: Path, broker: Address, wanted: Version, life: Life) -> None:
    link = CountingLink(broker, "edge-1")
    link.came = life.came
    outbox = Outbox.open(folder.with_name("outbox.sqlite"), 1_000_000)
    steps = Steps(
        Fetcher(link, TRUSTED, folder / "downloads"),
        ModelStore.open(folder / "models", SLOT),
        Inference(outbox),
        Limits(trial_s=0, golden_timeout_s=60, threads=1),
        prove_here,
    )
    updater = Updater("edge-1", Memory(folder, SLOT), steps, lambda kind, data: envelope.sign(kind, data, KEY), _now_ms)
    final = asyncio.Event()

    def changed() -> None:
        life.state = updater.update.state
        version = updater.running.version if updater.running else 0
        if life.served[-1:] != [version]:
            life.served.append(version)
        for text in filter(None, (updater.notice, updater.update.reason)):
            if life.told[-1:] != [text]:
                life.told.append(text)
        if updater.update.generation == wanted.number and updater.update.state.is_final:
            final.set()

    await updater.serve()
    updater.on_change = changed
    changed()
    if updater.update.generation < wanted.number:
        updater.desire(wanted.target)
    updating = asyncio.create_task(updater.run())
    ends = asyncio.create_task(final.wait())
    async with running(link), asyncio.timeout(60):
        await asyncio.wait({updating, ends}, return_when=asyncio.FIRST_COMPLETED)
    if updating.done():
        updating.result()
    updating.cancel()
    await asyncio.gather(updating, return_exceptions=True)
    outbox.close()


async def prove_here(
    *, digest: bytes, manifest: bytes, artifact: bytes, variant: str, model: Path, timeout_s: float
) -> Proof:
    """The golden vectors as the child process runs them, without the child process."""
    del timeout_s
    answer = trial.run(Manifest.FromString(manifest), model, variant)
    if answer["problem"]:
        raise NotProved(answer["problem"])
    return Proof(digest, artifact, variant, bytes.fromhex(answer["golden_outputs"]))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def read_diary(diary: Path) -> Life:
    return Life(**json.loads(diary.read_text()))


def chunks_on_disk(folder: Path, version: Version) -> set[int]:
    """The chunks of the version that lie proven in a copy of the data folder: in part, unpacked, or in a place."""
    digest = version.artifact.digest
    whole = [folder / "downloads" / f"{digest.hex()}.tflite", *(folder / "models" / SLOT).glob("*/model.tflite")]
    for path in whole:
        with suppress(FileNotFoundError):
            if path.read_bytes() == version.file:
                return set(range(len(version.chunks)))
    part = folder / "downloads" / f"{digest.hex()}.part"
    if not part.exists():
        return set()
    with Partial(part, rules.plan(version.artifact)) as there:
        there.prove()
        return {index for index in range(len(version.chunks)) if there.download.present >> index & 1}


@contextmanager
def broker(folder: Path) -> Iterator[Address]:
    """Mosquitto where it is installed, else amqtt, in a process of its own, with all versions on it."""
    kind = "mosquitto" if shutil.which("mosquitto") else "amqtt"
    site = Site(kind, folder)
    address = site.address
    command = [sys.executable, "-m", "tests.sites", kind, str(address.port), str(folder)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(bound_to(os.getpid(), command), cwd=root) as process:
        try:
            asyncio.run(_publish(address))
            yield address
        finally:
            process.kill()


async def _publish(address: Address) -> None:
    link = Link(address, "cloud")
    async with running(link), asyncio.timeout(60):
        for version in (FORMER, OLD, NEW):
            await version.publish(link)
