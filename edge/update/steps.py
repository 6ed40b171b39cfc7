"""The work of each state: it touches disk, network and interpreter, and comes to an event of the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from edge.delivery.entities import Rejected
from edge.foundation.disk import told
from edge.foundation.threads import finished
from edge.inference.entities import BadModel
from edge.models.entities import Installed, WrongStep
from edge.models.service import ModelStore
from edge.update import prover, rules, variants
from edge.update.candidate import Candidate, blueprint, understood
from edge.update.choice import Choice
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
from edge.update.ports import Delivery, Measure, Prove
from edge.update.prover import NotProved
from edge.update.requirements import Facts, Incompatible
from edge.update.variants import Means, Table, Unusable
from edge.update.watch import Serving, Watch
from protos.kit.link import Offline

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """trial_s: how long a model must hold. golden_timeout_s: what its proof may take. threads: of the interpreter.

    nice: added to the priority value of the model's process. measured_files: of a version, to measure its variants.
    """

    trial_s: float
    golden_timeout_s: float
    threads: int
    nice: int = 0
    measured_files: int = 1


class Steps:
    """Carries out one effect at a time. Each may be cancelled; what it does to the store is then finished first."""

    def __init__(
        self,
        delivery: Delivery,
        models: ModelStore,
        inference: Serving,
        limits: Limits,
        facts: Facts,
        *,
        prove: Prove = prover.prove,
        measure: Measure = prover.measure,
        beside: Sequence[ModelStore] = (),
    ) -> None:
        self._beside = beside  # other slots' models, whose files spare a transfer
        means = Means(limits.threads, limits.measured_files)
        self._choice = Choice(models.folder, facts, means, measure, limits.golden_timeout_s)
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

    @property
    def table(self) -> Table | None:
        """What was measured of the running version's variants; None: there was nothing to choose from."""
        return self._choice.table(self.running.manifest) if self.running else None

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
        installed = await finished(self._models.running)
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
            await finished(self._models.roll_back)
        except OSError as error:
            # Nothing commits this trial any more: staging ends it, and so does the next start.
            log.warning("the end of the trial is not written yet", error=str(error))

    def ended(self) -> None:
        """The model in use has ended for good, by itself: to be desired again is to be put into use again."""
        self.running = None
        self.on_change()

    @property
    def recalled(self) -> bytes:
        """Digest of the manifest that this device was told to go back from since the last commit."""
        return bytes.fromhex(self._models.recalled)

    async def recall(self, *, in_use: bool) -> None:
        """Have the model before be the device's model again; `in_use`: a new one is tried and not committed yet.

        It answers after `go_back`. Raises WrongStep if there is none, or OSError.
        """
        if not in_use:
            await finished(self._models.recall)
        elif await finished(self._models.running) is None:
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
            await finished(self._models.clear)
            self._withdraw()
            return Settled(None)
        proof = rules.known_proof(update)
        is_outdated = self._choice.is_outdated(target.manifest)
        if proof and not is_outdated and self.running and self.running.manifest == target.manifest:
            await self._tidy()
            return Settled(proof)
        await self._delivery.check(target.model, target.version, target.manifest, target.issued_ms)
        held = None if is_outdated else await finished(self._models.held, target.manifest)
        if held:
            self._candidate = Candidate(held.manifest, held.variant, {held.variant.artifact.digest: held.path})
        else:
            self._candidate = await self._fetch(target)
        return Obtained()

    async def _fetch(self, target: Target) -> Candidate:
        payload = await self._delivery.manifest(target.manifest)
        manifest = understood(payload, target)
        plan = self._choice.plan(target.manifest, manifest)
        held = await finished(self._held)
        if plan.is_open:
            plan, files = await self._choice.gather(
                plan, lambda one, tell: self._delivery.artifact(one, tell, held), self._tell
            )
        else:
            only = plan.options[0].artifact
            held |= await finished(self._choice.files)
            files = {only.digest: await self._delivery.artifact(only, self._tell, held)}
        return Candidate(manifest, plan.options[0], files, payload, plan)

    def _held(self) -> dict[bytes, Path]:
        return {digest: path for store in (*self._beside, self._models) for digest, path in store.files().items()}

    async def _prove(self, target: Target) -> Event:
        candidate = self._chosen()
        if candidate.plan and candidate.plan.is_open:
            chosen = await self._choice.choose(target.manifest, candidate.manifest, candidate.plan, candidate.files)
            self._candidate, proof = replace(candidate, variant=chosen.variant), chosen.proof
        else:
            proof = await self._prove_only(target, candidate)
        return await self._proved(proof)

    async def _prove_only(self, target: Target, candidate: Candidate) -> Proof:
        try:
            proof = await self._prove_in_child(
                digest=target.manifest,
                manifest=candidate.manifest.SerializeToString(),
                artifact=candidate.variant.artifact.digest,
                variant=candidate.variant.name,
                model=candidate.file,
                timeout_s=self._limits.golden_timeout_s,
            )
        except NotProved as error:
            if candidate.plan and self._choice.distrust(target.manifest, candidate.plan):
                raise OSError(f"{error}; the other variants are tried, too") from error
            raise
        if candidate.plan:
            await self._choice.settle(target.manifest, candidate.manifest, candidate.plan)
        return proof

    async def _proved(self, proof: Proof) -> Event:
        running = self.running
        if running is None or (running.manifest, running.variant) != (proof.manifest, proof.variant):
            return Proved(proof)
        await self._tidy()
        return Settled(proof)

    async def _take_over(self, target: Target) -> Event:
        candidate = self._chosen()
        if candidate.payload:
            await finished(self._models.stage, candidate.payload, candidate.variant.name, candidate.file)
        installed = await finished(self._models.staged)
        if installed is None or installed.digest != target.manifest:
            raise OSError("the model is not whole on this device's disk")
        await finished(self._models.begin_trial)
        self._watch = Watch(self._inference, self._limits.trial_s)
        await self._use(installed)
        return TakenOver()

    async def _hold(self) -> Event:
        watch = self._watch or Watch(self._inference, self._limits.trial_s)
        if trouble := await watch.trouble():
            return Broke(trouble)
        await finished(self._models.commit)
        self._candidate = None
        await self._tidy()
        return Held()

    async def _tidy(self) -> None:
        try:
            await finished(self._delivery.forget)
            await finished(self._choice.forget)
        except OSError as error:
            log.warning("fetched files not removed", error=str(error))

    async def _use(self, installed: Installed) -> None:
        manifest, variant = installed.manifest, installed.variant
        threads = variants.threads_of(variant, self._limits.threads)
        await self._inference.use(blueprint(installed, threads, self._limits.nice, self._models.slot))
        self.running = Running(manifest.model, manifest.version, installed.digest, variant.name)
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
