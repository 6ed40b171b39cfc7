"""The work of each state: it touches disk, network and interpreter, and comes to an event of the table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import structlog
from google.protobuf.message import DecodeError

from edge.delivery.entities import Rejected
from edge.foundation.disk import told
from edge.inference.entities import BadModel, Blueprint
from edge.inference.service import Inference
from edge.models.entities import Installed, WrongStep
from edge.models.service import ModelStore
from edge.update import deployment, prover, requirements, rules
from edge.update.entities import (
    Broke,
    Delayed,
    Effect,
    Event,
    Held,
    Obtained,
    Progress,
    Proof,
    Proved,
    Running,
    Settled,
    TakenOver,
    Target,
    Unfit,
    Update,
)
from edge.update.prover import NotProved
from edge.update.requirements import Facts, Incompatible
from edge.update.watch import Watch
from protos.kit.link import Offline
from protos.v1.manifest_pb2 import Artifact, Manifest, Variant

log = structlog.get_logger()

T = TypeVar("T")


class Delivery(Protocol):
    """How manifests and artifacts come to this device. All raise OSError for what may be had later."""

    async def check(self, model: str, version: int, manifest: bytes, issued_ms: int) -> None:
        """That fresh metadata promises this manifest for the version. Raises Rejected if it promises another."""

    async def manifest(self, digest: bytes) -> bytes:
        """The bytes of a manifest, its digest verified."""

    async def artifact(
        self, artifact: Artifact, progress: Callable[[int, int], None], held: Mapping[bytes, Path]
    ) -> Path:
        """The verified file. `progress` is told chunks present and in all. Raises Rejected for what can never be.

        `held`: files by their digest that spare it chunks. What was fetched of other artifacts is removed.
        """

    def forget(self, keep: bytes | None = None) -> None:
        """Remove the files of `artifact`, but for those of the artifact digest `keep`."""


class Prove(Protocol):
    """How a model is made to prove itself: `prover.prove`."""

    async def __call__(
        self, *, digest: bytes, manifest: bytes, artifact: bytes, variant: str, model: Path, timeout_s: float
    ) -> Proof:
        """The proof. Raises NotProved, or OSError for what may be possible later."""


class Unusable(Exception):
    """The manifest is genuine, and this device cannot carry it out."""


@dataclass(frozen=True, slots=True)
class Limits:
    """trial_s: how long a model must hold. golden_timeout_s: what its proof may take. threads: of the interpreter."""

    trial_s: float
    golden_timeout_s: float
    threads: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model on this device that is about to be proved. payload: its manifest's bytes; empty: it lies in a place."""

    manifest: Manifest
    variant: Variant
    file: Path
    payload: bytes = b""


class Steps:
    """Carries out one effect at a time. Each may be cancelled; what it does to the store is then finished first."""

    def __init__(
        self,
        delivery: Delivery,
        models: ModelStore,
        inference: Inference,
        limits: Limits,
        facts: Facts,
        *,
        prove: Prove = prover.prove,
    ) -> None:
        self._facts = facts
        self._delivery = delivery
        self._models = models
        self._inference = inference
        self._limits = limits
        self._prove_in_child = prove
        self._candidate: Candidate | None = None
        self._watch: Watch | None = None
        self.running: Running | None = None
        self.progress = Progress()
        self.on_change: Callable[[], None] = lambda: None

    async def perform(self, effect: Effect, update: Update) -> Event:
        """The event that this piece of work comes to."""
        assert update.target, "there is work only for a deployment"
        try:
            return await self._work(effect, update, update.target)
        except (BadModel, Incompatible, NotProved, Rejected, Unusable) as error:
            return Unfit(str(error))
        except OSError as error:
            return Delayed(told(error))
        except Offline as error:
            return Delayed(str(error))
        except Exception as error:
            # A defect here must not take inference and uplink with it: it is shown, and tried again.
            log.exception("update step failed", step=effect.value)
            return Delayed(f"{type(error).__name__}: {error}")

    async def serve_committed(self) -> None:
        """Have the committed model answer; no model if there is none, or it cannot be used any more."""
        installed = await _finished(self._models.running)
        if installed and self.running and self.running.manifest == installed.digest:
            return
        try:
            if installed:
                await self._use(installed)
                return
        except BadModel as error:
            log.error("the committed model cannot be used", error=str(error))
        self._withdraw()

    async def go_back(self) -> None:
        """The committed model answers again; a trial is over."""
        await self.serve_committed()
        try:
            await _finished(self._models.roll_back)
        except OSError as error:
            # Nothing commits this trial any more: staging ends it, and so does the next start.
            log.warning("the end of the trial is not written yet", error=str(error))

    @property
    def recalled(self) -> bytes:
        """Digest of the manifest that this device was told to go back from since the last commit."""
        return bytes.fromhex(self._models.recalled)

    async def recall(self, *, in_use: bool) -> None:
        """Have the model before be the device's model again; `in_use`: a new one is tried and not committed yet.

        It answers after `go_back`. Raises WrongStep if there is none, or OSError.
        """
        if not in_use:
            await _finished(self._models.recall)
        elif await _finished(self._models.running) is None:
            raise WrongStep("the model on trial is the first one that this device has")

    async def _work(self, effect: Effect, update: Update, target: Target) -> Event:
        match effect:
            case Effect.OBTAIN:
                return await self._obtain(update, target)
            case Effect.PROVE:
                return await self._prove(target)
            case Effect.TAKE_OVER:
                return await self._take_over(target)
            case Effect.HOLD:
                return await self._hold()
            case _:
                raise ValueError(f"{effect} is not work that comes to an event")

    async def _obtain(self, update: Update, target: Target) -> Event:
        self._tell(present=0, total=0)
        if not target.manifest:
            await _finished(self._models.clear)
            self._withdraw()
            return Settled(None)
        proof = rules.known_proof(update)
        if proof and self.running and self.running.manifest == target.manifest:
            await self._tidy()
            return Settled(proof)
        await self._delivery.check(target.model, target.version, target.manifest, target.issued_ms)
        held = await _finished(self._models.held, target.manifest)
        if held:
            self._candidate = Candidate(held.manifest, held.variant, held.path)
        else:
            self._candidate = await self._fetch(target)
        return Obtained()

    async def _fetch(self, target: Target) -> Candidate:
        payload = await self._delivery.manifest(target.manifest)
        manifest, variant = _understood(payload, target)
        requirements.check(manifest.requirements, variant.name, self._facts)
        held = await _finished(self._models.files)
        file = await self._delivery.artifact(variant.artifact, self._tell, held)
        return Candidate(manifest, variant, file, payload)

    async def _prove(self, target: Target) -> Event:
        candidate = self._chosen()
        proof = await self._prove_in_child(
            digest=target.manifest,
            manifest=candidate.manifest.SerializeToString(),
            artifact=candidate.variant.artifact.digest,
            variant=candidate.variant.name,
            model=candidate.file,
            timeout_s=self._limits.golden_timeout_s,
        )
        if self.running is None or self.running.manifest != target.manifest:
            return Proved(proof)
        await self._tidy()
        return Settled(proof)

    async def _take_over(self, target: Target) -> Event:
        candidate = self._chosen()
        if candidate.payload:
            await _finished(self._models.stage, candidate.payload, candidate.variant.name, candidate.file)
        installed = await _finished(self._models.staged)
        if installed is None or installed.digest != target.manifest:
            raise OSError("the model is not whole on this device's disk")
        await _finished(self._models.begin_trial)
        self._watch = Watch(self._inference, self._limits.trial_s)
        await self._use(installed)
        return TakenOver()

    async def _hold(self) -> Event:
        watch = self._watch or Watch(self._inference, self._limits.trial_s)
        if trouble := await watch.trouble():
            return Broke(trouble)
        await _finished(self._models.commit)
        self._candidate = None
        await self._tidy()
        return Held()

    async def _tidy(self) -> None:
        try:
            await _finished(self._delivery.forget)
        except OSError as error:
            log.warning("fetched files not removed", error=str(error))

    async def _use(self, installed: Installed) -> None:
        manifest, threads = installed.manifest, self._limits.threads
        await self._inference.use(
            Blueprint(
                file=installed.path,
                variant=installed.variant,
                preprocessing=manifest.preprocessing,
                threads=threads,
                manifest=installed.digest,
                model=manifest.model,
                version=manifest.version,
                labels=tuple(manifest.labels),
            )
        )
        self.running = Running(manifest.model, manifest.version, installed.digest)
        self.on_change()

    def _withdraw(self) -> None:
        self._inference.withdraw()
        self.running = None
        self.on_change()

    def _chosen(self) -> Candidate:
        assert self._candidate, "only an obtained model is proved and taken over"
        return self._candidate

    def _tell(self, present: int, total: int) -> None:
        self.progress = Progress(total=total, present=present)
        self.on_change()


def _understood(payload: bytes, target: Target) -> tuple[Manifest, Variant]:
    """The manifest in `payload`, and the variant to run. Raises Unusable."""
    try:
        manifest = Manifest.FromString(payload)
        deployment.check_manifest(target, manifest)
    except (DecodeError, ValueError) as error:
        raise Unusable(str(error)) from error
    variant = rules.choose_variant(manifest)
    if variant is None:
        names = ", ".join(repr(variant.name) for variant in manifest.variants) or "none"
        raise Unusable(
            f"no variant can be run here: the manifest has {names}, this device takes "
            f"{' or '.join(rules.PREFERRED_VARIANTS)} with golden vectors"
        )
    return manifest, variant


async def _finished(function: Callable[..., T], *arguments: object) -> T:
    """Call `function` in a thread. When cancelled, wait for its end: no two threads may change the store at once."""
    task = asyncio.create_task(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
