"""One source's frames between the hand-over and the durable result, and what the source is to be told of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from itertools import islice

from edge.inference import rules
from edge.inference.entities import FrameRun, MicroBatch, Overload, Reply

PROBLEMS_KEPT = 16


class Intake:
    """A source's queue. Frames that it accepted end in exactly one way: settled, or dropped where overload drops.

    Only a source that leaves before gets those that wait back, to hand them in again; one that cannot wait has lost
    them. limit: how many frames of a size it may have unsettled now. watermark: last frame settled for good. accepted:
    last frame taken. dropped: frames so far. refused: frames so far that a source that cannot wait has lost so.
    Use it on one event loop.
    """

    def __init__(
        self, source: str, watermark: int, limit: Callable[[int], int], overload: Overload = Overload.WAIT
    ) -> None:
        self.source = source
        self.watermark = watermark
        self.left = False
        self.in_work = 0
        self.dropped = 0
        self.refused = 0
        self._limit = limit
        self._overload = overload
        self.accepted = watermark
        self._waiting: deque[FrameRun] = deque()
        self._waiting_frames = 0
        self._ended = False
        self._owes_reply = True  # the first reply tells where to start
        self._problems: deque[str] = deque(maxlen=PROBLEMS_KEPT)
        self._changed = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Frames that wait to be inferred."""
        return self._waiting_frames

    @property
    def held(self) -> int:
        """Frames accepted and not settled."""
        return self._waiting_frames + self.in_work

    async def put(self, run: FrameRun) -> None:
        """Accept the frames that are new, as soon as there is room for them; old ones are answered again."""
        run = run.part(rules.known(run.first_frame, len(run), self.accepted), len(run))
        if not len(run):
            self._owes_reply = True
            return self._tell()
        if self._overload is Overload.DROP_OLDEST:
            run = self._make_room(run)
        while self._overload is Overload.WAIT and not rules.has_room(self.held, len(run), self._limit(run.frame_bytes)):
            await self._changed.wait()
        if self.left:
            return None
        self.accepted = run.last_frame
        self._waiting.append(run)
        self._waiting_frames += len(run)
        return None

    def _make_room(self, run: FrameRun) -> FrameRun:
        """Drop the oldest until there is room for `run`, of which the rest is returned."""
        excess = rules.overflow(self._waiting_frames, self.in_work, len(run), self._limit(run.frame_bytes))
        self.dropped += excess
        while excess and self._waiting:
            oldest = self._waiting.popleft()
            going = min(excess, len(oldest))
            if going < len(oldest):
                self._waiting.appendleft(oldest.part(going, len(oldest)))
            self._waiting_frames -= going
            excess -= going
        return run.part(excess, len(run))

    def take(self, limit: int) -> MicroBatch:
        """The next frames to infer, at most `limit`. There must be some."""
        nearest = islice(self._waiting, limit)  # each has a frame at least: more are never needed
        amount = rules.take([(run.first_frame, len(run), run.pixels.shape[1]) for run in nearest], limit)
        runs = [self._waiting.popleft() for _ in range(amount.whole)]
        if amount.part:
            run = self._waiting[0]
            runs.append(run.part(0, amount.part))
            self._waiting[0] = run.part(amount.part, len(run))
        batch = MicroBatch(self.source, tuple(runs))
        self._waiting_frames -= len(batch)
        self.in_work += len(batch)
        return batch

    def settle(self, batch: MicroBatch, problem: str) -> None:
        """`batch` is settled for good; `problem` says why it has no results, if it has none."""
        self.in_work -= len(batch)
        self.watermark = batch.last_frame
        if problem:
            self._problems.append(problem)
        self._owes_reply = True
        self._tell()

    def refuse(self, problem: str, frames: int = 0) -> None:
        """Tell the source why so many frames were not accepted."""
        self._problems.append(problem)
        if self._overload is Overload.DROP_OLDEST:
            self.refused += frames
        self._tell()

    def end(self) -> None:
        """The source hands in no more; the replies end once everything is settled."""
        self._ended = True
        self._tell()

    def leave(self) -> None:
        """The source is gone: what is not yet in work it will hand in again, unless it is one that cannot wait."""
        self.left = True
        if self._overload is Overload.DROP_OLDEST:
            self.dropped += self._waiting_frames
        self._waiting.clear()
        self._waiting_frames = 0
        self._tell()

    async def parted(self) -> None:
        """Return when the source has left."""
        while not self.left:
            await self._changed.wait()

    async def gone(self) -> None:
        """Return when the source has left and nothing of it is in work any more."""
        while not self.left or self.in_work:
            await self._changed.wait()

    async def replies(self) -> AsyncIterator[Reply]:
        """Where to start, then each move of the watermark (several at once become one) and each problem."""
        while True:
            if self.left:
                return
            if self._problems:
                yield Reply(self.watermark, self._problems.popleft(), self.dropped)
            elif self._owes_reply:
                self._owes_reply = False
                yield Reply(self.watermark, dropped=self.dropped)
            elif self._ended and not self.held:
                return
            else:
                await self._changed.wait()

    def _tell(self) -> None:
        # A pulse: whoever waits looks again; whoever comes later looks first and does not miss it.
        self._changed.set()
        self._changed.clear()
