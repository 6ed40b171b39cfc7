"""A comparison of two models' columns as counts, which grow and go on after a restart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protos.kit.columns import Results
from protos.kit.sketches import CHANGE_BINS, COST_BINS, change_counts, cost_bin
from protos.v1.sketches_pb2 import Comparison

MOST_PAIRS = 1024
"""Pairs of labels that are counted apart; that of later ones only their agreement is."""

PAIRS_TOLD = 512

_LABELS = 2**16


class Tally:
    """Counts of one champion and one challenger. `told` is what was counted before a restart."""

    def __init__(self, told: Comparison) -> None:
        self._told = told
        pairs = zip(told.champion_label, told.challenger_label, told.pair_frames, strict=True)
        self._pairs = Counter({champion * _LABELS + challenger: frames for champion, challenger, frames in pairs})
        self._changes = _counts(told.confidence_change, CHANGE_BINS)
        self._champion_cost = _counts(told.champion_cost, COST_BINS)
        self._challenger_cost = _counts(told.challenger_cost, COST_BINS)

    @property
    def champion(self) -> bytes:
        """The digest of its manifest."""
        return self._told.champion

    @property
    def generation(self) -> int:
        """Of the challenger's deployment."""
        return self._told.generation

    def offer(self, count: int) -> None:
        """The champion has answered so many frames."""
        self._told.offered += count

    def add(
        self, champion: Results, challenger: Results, champion_us: float, challenger_us: float
    ) -> NDArray[np.bool_]:
        """Answers of both to the same `n` frames, and what a frame cost each in µs; returns where they disagree."""
        self._told.compared += len(champion)
        disagree: NDArray[np.bool_] = champion.label != challenger.label
        self._told.agreed += len(champion) - int(disagree.sum())
        self._told.champion_confidence += float(champion.confidence.sum(dtype=np.float64))
        self._told.challenger_confidence += float(challenger.confidence.sum(dtype=np.float64))
        self._changes += change_counts(champion.confidence, challenger.confidence)
        self._champion_cost[cost_bin(champion_us)] += len(champion)
        self._challenger_cost[cost_bin(challenger_us)] += len(challenger)
        self._count_pairs(champion.label.astype(np.int64) * _LABELS + challenger.label)
        return disagree

    def message(self, now_ms: int) -> Comparison:
        """All of it, as it is sent and kept."""
        made = Comparison()
        made.CopyFrom(self._told)
        made.measured_ms = now_ms
        for field in ("champion_label", "challenger_label", "pair_frames"):
            made.ClearField(field)
        for pair, frames in self._pairs.most_common(PAIRS_TOLD):
            made.champion_label.append(pair // _LABELS)
            made.challenger_label.append(pair % _LABELS)
            made.pair_frames.append(frames)
        made.confidence_change[:] = self._changes.tolist()
        made.champion_cost[:] = self._champion_cost.tolist()
        made.challenger_cost[:] = self._challenger_cost.tolist()
        return made

    def _count_pairs(self, codes: NDArray[np.int64]) -> None:
        for pair, frames in zip(*(found.tolist() for found in np.unique(codes, return_counts=True)), strict=True):
            if pair in self._pairs or len(self._pairs) < MOST_PAIRS:
                self._pairs[pair] += frames


def _counts(told: Sequence[int], bins: int) -> NDArray[np.int64]:
    return np.array(told if len(told) == bins else [0] * bins, np.int64)
