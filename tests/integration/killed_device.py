"""A device's whole update, from the deployment to the committed model, to be killed anywhere: real code, real broker.

Only its data folder outlives it. The golden vectors run in its own process, so that one process makes all the calls.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import structlog
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.registry.patches import difference
from edge.agent import holding
from edge.delivery import partial, transfer
from edge.delivery.mqtt import Fetcher
from edge.delivery.trust import Trust
from edge.foundation.version import agent_version
from edge.inference import operators
from edge.inference.service import Inference
from edge.models.service import ModelStore
from edge.update import rules as update_rules
from edge.update import trial
from edge.update.entities import Proof, Target
from edge.update.memory import Memory
from edge.update.prover import NotProved
from edge.update.requirements import Facts
from edge.update.service import Updater
from edge.update.steps import Limits, Steps
from edge.update.variants import Speed
from edge.uplink.outbox import Outbox
from protos import topics
from protos.kit import envelope
from protos.kit.children import bound_to
from protos.kit.link import Address, Link
from protos.v1.manifest_pb2 import COMPRESSION_ZSTD, PATCH_KIND_DIFFERENCE, Artifact, ChunkRef, Manifest
from tests import in_thread, tiny_models
from tests.sites import Site, running
from tests.trust_kit import Fleet, Shelf

KEY = Ed25519PrivateKey.generate()
SLOT = topics.DEFAULT_SLOT
CHUNK = 4096
SYNC_EVERY_BYTES = 2 * CHUNK
NOISE_BYTES = 6 * CHUNK
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Version:
    """A model version as the cloud would publish it, in several chunks. Its number is also its generation.

    travels: chunks by the digest that is in their topics: of the file, then of a patch to it.
    """

    number: int
    file: bytes
    travels: dict[bytes, list[bytes]]
    payload: bytes

    @classmethod
    def make(cls, number: int, base: Version | None = None, *, varied: bool = False) -> Version:
        """Noise after the model's bytes: it does not compress, and the interpreter does not look at it.

        With a base a third of the noise is the base's, and the rest comes as a patch. A varied one has a second
        variant, a slower one, whose file is fetched, too.
        """
        model = tiny_models.int8(tiny_models.weights() * (1 - number / 10))
        noise = np.random.default_rng(number).bytes(NOISE_BYTES)
        file = model + (noise[: NOISE_BYTES * 2 // 3] + base.file[-NOISE_BYTES // 3 :] if base else noise)
        chunks = cut(zstandard.compress(file))
        artifact = Artifact(
            digest=hashlib.sha256(file).digest(), size=len(file), compression=COMPRESSION_ZSTD, chunks=refs(chunks)
        )
        travels = {artifact.digest: chunks}
        if base:
            patch = difference(base.file, file)
            travels[hashlib.sha256(patch).digest()] = cut(patch)
            artifact.patches.add(
                base=hashlib.sha256(base.file).digest(),
                digest=hashlib.sha256(patch).digest(),
                kind=PATCH_KIND_DIFFERENCE,
                chunks=refs(cut(patch)),
            )
        files = {"int8": file}
        if varied:
            files["float32"] = tiny_models.float32(tiny_models.weights()) + np.random.default_rng(99).bytes(NOISE_BYTES)
        manifest = tiny_models.manifest(files, version=number)
        manifest.variants[0].artifact.CopyFrom(artifact)
        for variant in manifest.variants[1:]:
            chunks = cut(files[variant.name])
            variant.artifact.ClearField("chunks")
            variant.artifact.chunks.extend(refs(chunks))
            travels[variant.artifact.digest] = chunks
        return cls(number, file, travels, manifest.SerializeToString())

    @property
    def is_varied(self) -> bool:
        return len(Manifest.FromString(self.payload).variants) > 1

    @property
    def artifact(self) -> Artifact:
        return Manifest.FromString(self.payload).variants[0].artifact

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.payload).digest()

    @property
    def shortest(self) -> set[str]:
        """The chunks that a device needs which runs the base: all of the patch, or of the files if there is none."""
        needed = list(self.travels.items()) if self.is_varied else list(self.travels.items())[-1:]
        return {name_of(digest, index) for digest, chunks in needed for index in range(len(chunks))}

    @property
    def target(self) -> Target:
        now_ms = time.time_ns() // 1_000_000
        return Target(SLOT, "tiny", self.number, self.digest, self.number, now_ms, now_ms + DAY_MS, "")

    async def publish(self, link: Link) -> None:
        await link.connected.wait()
        signed = envelope.sign(envelope.MANIFEST, self.payload, KEY).SerializeToString()
        await link.publish(topics.manifest(self.digest), signed, retain=True)
        for digest, chunks in self.travels.items():
            for index, chunk in enumerate(chunks):
                await link.publish(topics.chunk(digest, index), chunk, retain=True)


def cut(travelling: bytes) -> list[bytes]:
    return [travelling[start : start + CHUNK] for start in range(0, len(travelling), CHUNK)]


def refs(chunks: list[bytes]) -> list[ChunkRef]:
    return [ChunkRef(digest=hashlib.sha256(chunk).digest(), size=len(chunk)) for chunk in chunks]


def name_of(digest: bytes, index: int) -> str:
    """A chunk, for people."""
    return f"{digest.hex()[:8]}/{index}"


FORMER, OLD, NEW = (Version.make(number) for number in (1, 2, 3))
PATCHED = Version.make(4, OLD)
VARIED = Version.make(5, varied=True)
SPEEDS = {"int8": Speed(20, 10), "float32": Speed(40, 30)}


def listed(*versions: Version) -> tuple[bytes, Shelf]:
    """A fleet's root, and a source of the metadata that lists these versions."""
    with TemporaryDirectory() as folder:
        fleet = Fleet(Path(folder))
        with fleet.database.transaction() as transaction:
            for version in versions:
                fleet.trust.list_version(transaction, "tiny", version.number, version.payload, fleet.now_ms)
        return fleet.root, Shelf(fleet.files())


ROOT, SHELF = listed(FORMER, OLD, NEW, PATCHED, VARIED)


@dataclass
class Life:
    """What one process of the device did until its update was final."""

    came: list[str] = field(default_factory=list)
    """Chunks that the broker sent."""
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

    came: list[str]

    async def subscribe(self, handler: Callable[[str, bytes], Any], *wanted: str) -> None:
        def counted(topic: str, data: bytes) -> Any:
            if "/chunks/" in topic:
                self.came.append(name_of(*topics.chunk_of(topic)))
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
        Fetcher(link, Trust(folder / "metadata", ROOT, [SHELF], 600, _now_ms), folder / "downloads"),
        ModelStore.open(folder / "models", SLOT),
        Inference(outbox, start=in_thread.start),
        Limits(trial_s=0, golden_timeout_s=60, threads=1, measured_files=2),
        Facts(platform.machine(), agent_version(), operators.known()),
        prove=prove_here,
        measure=measure_here,
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


async def measure_here(
    *, digest: bytes, manifest: bytes, artifact: bytes, variant: str, model: Path, timeout_s: float, threads: int
) -> tuple[Proof, Speed]:
    """As `prove_here`; what a variant takes is always the same."""
    del threads
    proof = await prove_here(
        digest=digest, manifest=manifest, artifact=artifact, variant=variant, model=model, timeout_s=timeout_s
    )
    return proof, SPEEDS[variant]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def read_diary(diary: Path) -> Life:
    return Life(**json.loads(diary.read_text()))


def chunks_on_disk(folder: Path, version: Version) -> set[str]:
    """What a device need not fetch of the shortest way, by a copy of its data folder: it is there, or what it makes."""
    if version.is_varied:
        return _varied_on_disk(folder, version)
    artifact = version.artifact
    downloads = folder / "downloads"
    whole = [downloads / f"{artifact.digest.hex()}.tflite", *(folder / "models" / SLOT).glob("*/model.tflite")]
    for path in whole:
        with suppress(FileNotFoundError):
            if path.read_bytes() == version.file:
                return version.shortest
    patches = {patch.digest: f"{artifact.digest.hex()}.{patch.digest.hex()}.part" for patch in artifact.patches}
    name = {artifact.digest: f"{artifact.digest.hex()}.part"} | patches
    digest, chunks = list(version.travels.items())[-1]
    return {name_of(digest, index) for index in _present(downloads / name[digest], chunks)}


def _varied_on_disk(folder: Path, version: Version) -> set[str]:
    """Of both variants; once the choice is written down, nothing more is needed of the one that was not taken."""
    decided = folder / "models" / SLOT / "variants.json"
    if decided.exists():
        return version.shortest
    found = set[str]()
    for digest, chunks in version.travels.items():
        whole = [folder / "downloads" / f"{digest.hex()}.tflite", folder / "models" / SLOT / "variants" / digest.hex()]
        part = folder / "downloads" / f"{digest.hex()}.part"
        is_whole = any(path.exists() and hashlib.sha256(path.read_bytes()).digest() == digest for path in whole)
        present = set(range(len(chunks))) if is_whole else _present(part, chunks)
        found |= {name_of(digest, index) for index in present}
    return found


def _present(part: Path, chunks: list[bytes]) -> set[int]:
    data = part.read_bytes() if part.exists() else b""
    return {index for index, chunk in enumerate(chunks) if data[index * CHUNK : index * CHUNK + len(chunk)] == chunk}


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
        for version in (FORMER, OLD, NEW, PATCHED, VARIED):
            await version.publish(link)
