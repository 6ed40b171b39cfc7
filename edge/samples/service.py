"""Frames that a policy wants are kept for the cloud, within its budget; results never wait for them.

What a policy chooses of a batch is copied at once and written by a task of its own. While no policy fits, a batch costs
one comparison.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import structlog
from numpy.typing import NDArray

from edge.foundation.threads import finished
from edge.inference.entities import Answered, MicroBatch
from edge.samples import rules
from edge.samples.entities import Chosen, NewSample, Policy, Reason, SamplesFailed
from edge.samples.store import SampleStore
from protos.kit import columns
from protos.kit.columns import Results
from protos.v1.samples_pb2 import SampleOffer, SamplePolicies

MAX_UNWRITTEN = 8
"""Batches with samples that wait for the disk; of those behind them nothing is kept."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Unwritten:
    """Samples on their way to the disk, taken from `day`'s budget of `policy` already."""

    samples: list[NewSample]
    policy: str
    day: int

    @property
    def size(self) -> int:
        return sum(len(sample.pixels) for sample in self.samples)


class Sampler:
    """Chooses samples and keeps them. All methods belong on the event loop of `run`.

    `max_waiting`: bytes of frames that may wait here. `now_ms`: Unix time, whose UTC days have the budgets.
    """

    def __init__(self, store: SampleStore, device: str, max_waiting: int, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._device = device
        self._max_waiting = max_waiting
        self._now_ms = now_ms
        self._books = store.books()
        self._policies = read_policies(SamplePolicies.FromString(store.policies()))
        self._unwritten: asyncio.Queue[_Unwritten] = asyncio.Queue(MAX_UNWRITTEN)
        self.on_kept: Callable[[], None] = lambda: None

    @property
    def policies(self) -> tuple[Policy, ...]:
        """That hold now."""
        return self._policies

    async def follow(self, message: SamplePolicies) -> None:
        """Choose by these policies from now on, and after a restart. Raises SamplesFailed: they hold for now."""
        policies = read_policies(message)
        if policies != self._policies:
            self._policies = policies
            log.info("samples are chosen by new policies", policies=[policy.name for policy in policies])
            await finished(self._store.follow, message.SerializeToString())

    def take(self, answered: Answered) -> None:
        """Keep what a policy wants of these frames."""
        policy = rules.policy_for(self._policies, answered.blueprint.model)
        if policy is None or not (policy.below or policy.share):
            return
        batch = answered.batch
        results = columns.decode(answered.outcome.payload, len(batch))
        seed = rules.seed_of(self._device, batch.source)
        chosen = rules.choose(policy, results.confidence, results.frame, seed)
        if len(chosen):
            self._keep(policy, chosen, results, batch.frame_bytes, lambda places: pixels_of(batch, places))

    def keep(self, frames: NDArray[np.uint8], results: Results, reason: Reason = Reason.DISAGREEMENT) -> int:
        """Keep frames that somebody else has chosen, uint8 (n, bytes of a frame), with their results; returns how many.

        None where no policy wants them, or the budget is spent. They are copied.
        """
        policy = rules.policy_for(self._policies, results.model)
        if policy is None or (reason is Reason.DISAGREEMENT and not policy.disagreement) or not len(results):
            return 0
        places = np.argsort(results.confidence, kind="stable")
        chosen = Chosen(places, (reason,) * len(places))
        return self._keep(policy, chosen, results, frames.shape[1], lambda some: frames[some])

    async def run(self) -> None:
        """Write what is chosen, for ever."""
        while True:
            unwritten = await self._unwritten.get()
            try:
                await finished(self._store.add, unwritten.samples, unwritten.policy, unwritten.day)
            except SamplesFailed as error:
                log.error("samples not kept", samples=len(unwritten.samples), error=str(error))
                self._books = rules.spend(self._books, unwritten.policy, unwritten.day, -unwritten.size)
            else:
                log.debug("samples kept", samples=len(unwritten.samples), bytes=unwritten.size)
                self.on_kept()
            finally:
                self._unwritten.task_done()

    async def written(self) -> None:
        """Return when all that was chosen is on the disk, or given up."""
        await self._unwritten.join()

    async def forget(self, sample: int) -> None:
        """The cloud has it, or does not want it. Raises SamplesFailed."""
        size = await finished(self._store.remove, sample)
        self._books = rules.forget(self._books, size)

    def _keep(
        self,
        policy: Policy,
        chosen: Chosen,
        results: Results,
        frame_bytes: int,
        pixels: Callable[[NDArray[np.int64]], NDArray[np.uint8]],
    ) -> int:
        day = rules.day_of(self._now_ms())
        room = rules.affordable(policy, self._books, day, frame_bytes, self._max_waiting)
        count = min(room, len(chosen))
        if not count or self._unwritten.full():
            return 0
        chosen = replace(chosen, places=chosen.places[:count], reasons=chosen.reasons[:count])
        samples = samples_of(chosen, results, pixels(chosen.places))
        self._books = rules.spend(self._books, policy.name, day, count * frame_bytes)
        self._unwritten.put_nowait(_Unwritten(samples, policy.name, day))
        return count


def read_policies(message: SamplePolicies) -> tuple[Policy, ...]:
    """As the cloud said them."""
    return tuple(
        Policy(one.name, one.model, one.below, one.disagreement, one.share, one.bytes_per_day)
        for one in message.policies
    )


def pixels_of(batch: MicroBatch, places: NDArray[np.int64]) -> NDArray[np.uint8]:
    """A copy of the frames at these places, uint8 (k, bytes of a frame)."""
    copied = np.empty((len(places), batch.frame_bytes), np.uint8)
    start = 0
    for run in batch.runs:
        here = (places >= start) & (places < start + len(run))
        copied[here] = run.pixels[places[here] - start]
        start += len(run)
    return copied


def samples_of(chosen: Chosen, results: Results, pixels: NDArray[np.uint8]) -> list[NewSample]:
    """The chosen frames, each with its result."""
    return [
        _sample(results, place, reason, pixels[number].tobytes())
        for number, (place, reason) in enumerate(zip(chosen.places.tolist(), chosen.reasons, strict=True))
    ]


def _sample(results: Results, place: int, reason: Reason, pixels: bytes) -> NewSample:
    about = SampleOffer(
        digest=hashlib.sha256(pixels).digest(),
        size=len(pixels),
        source=results.source,
        frame=int(results.frame[place]),
        captured_us=max(0, int(results.captured_us[place])),
        model=results.model,
        version=results.version,
        manifest=results.manifest,
        label=int(results.label[place]),
        confidence=float(results.confidence[place]),
        reason=reason,
    )
    return NewSample(about.SerializeToString(), pixels)
