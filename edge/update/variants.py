"""Which variants of a model version this device may run, which it measures, and which it takes. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from edge.update import requirements
from edge.update.requirements import Facts, Incompatible
from protos.v1.manifest_pb2 import DELEGATE_DEFAULT, DELEGATE_NONE, Manifest, Variant

PREFERRED = ("int8", "float32")
"""Considered first, in this order; then the others, in the manifest's."""

DELEGATES = frozenset({DELEGATE_DEFAULT, DELEGATE_NONE})
MOST_MEASURED = 8
AS_FAST = 1.05
"""A variant that takes no more than so many times the shortest is as fast: then the more accurate one is taken."""

CLEARLY_SLOWER = 1.2
ALIKE = 0.1
"""A file counts as of the same network as the one before if its size differs by no more than this share."""

ROUNDING = 1e-9


class Unusable(Exception):
    """The manifest is genuine, and this device cannot carry it out."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a device gives a slot. threads: of the interpreter. files: of a version that are fetched to be measured."""

    threads: int
    files: int


@dataclass(frozen=True, slots=True)
class Speed:
    """Wall time in µs: single_us for a frame alone, frame_us for one in the best batch."""

    single_us: float
    frame_us: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What one variant came to here. problem: why it is not run; empty: it can be.

    measured_in: version whose file was measured, 0: none. form, size: of its tensors and its file, by which it is
    compared with the variant of this name in the next version.
    """

    variant: str
    threads: int
    accuracy: float
    form: str
    size: int
    single_us: float = 0.0
    frame_us: float = 0.0
    measured_in: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """What was found out about a version on this hardware, and the variant that was taken for it. manifest: in hex."""

    manifest: str
    model: str
    version: int
    hardware: str
    chosen: str
    rows: tuple[Measured, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """options: what is left to choose from, at least one. rows: of all variants, as far as they are known."""

    options: tuple[Variant, ...]
    rows: tuple[Measured, ...]

    @property
    def is_open(self) -> bool:
        """Whether they are to be measured."""
        return len(self.options) > 1

    def without(self, problems: Mapping[str, str]) -> Plan:
        """What is left without these variants; the first option must not be among them."""
        options = tuple(option for option in self.options if option.name not in problems)
        rows = tuple(replace(row, problem=problems.get(row.variant, row.problem)) for row in self.rows)
        return Plan(options, rows)

    @property
    def relies_on_former(self) -> bool:
        """Whether a variant was left out for what it took in an earlier version."""
        left_out = {row.variant for row in self.rows if not row.problem} - {option.name for option in self.options}
        return bool(left_out)


def plan(manifest: Manifest, facts: Facts, means: Means, former: Table | None = None) -> Plan:
    """What of the version fits this device. former: of an earlier version on the same hardware.

    Raises Incompatible if the version is for other devices, Unusable if it is for none.
    """
    order = _ordered(manifest.variants)
    problems = {variant.name: _problem(manifest, variant, facts, means) for variant in order}
    fitting = [variant for variant in order if not problems[variant.name]]
    if not fitting:
        raise _nothing_fits(manifest, order, facts, problems)
    known = _known(fitting, former) if former else {}
    slower = known.keys() - {former.chosen if former else ""}
    options = _affordable([variant for variant in fitting if variant.name not in slower], means.files)
    left_out = {variant.name for variant in fitting} - {variant.name for variant in options} - slower
    problems |= dict.fromkeys(left_out, f"not measured: this device measures {means.files} files of a version")
    rows = (known.get(one.name) or replace(_row(one, means), problem=problems[one.name]) for one in order)
    return Plan(options, tuple(rows))


def decided(manifest: Manifest, found: Mapping[str, Speed | str], plan: Plan) -> tuple[Measured, ...]:
    """The rows with what was found: what the options took, or why they cannot be run."""

    def learnt(row: Measured) -> Measured:
        match found.get(row.variant):
            case Speed(single_us, frame_us):
                return replace(row, single_us=single_us, frame_us=frame_us, measured_in=manifest.version)
            case str(problem):
                return replace(row, problem=problem)
            case _:
                return row

    return tuple(map(learnt, plan.rows))


def choose(rows: Sequence[Measured], options: Iterable[Variant]) -> str:
    """The variant to take: the fastest; of several as fast the most accurate, then the first. Empty: none is usable."""
    names = {option.name for option in options}
    usable = [row for row in rows if row.variant in names and not row.problem]
    if not usable:
        return ""
    shortest = min(row.frame_us for row in usable)
    as_fast = [row for row in usable if row.frame_us <= AS_FAST * shortest]
    return max(as_fast, key=lambda row: row.accuracy).variant


def threads_of(variant: Variant, threads: int) -> int:
    """Of the interpreter, where the slot has so many."""
    return variant.threads or threads


def _ordered(variants: Sequence[Variant]) -> list[Variant]:
    def rank(variant: Variant) -> int:
        return PREFERRED.index(variant.name) if variant.name in PREFERRED else len(PREFERRED)

    return sorted(variants, key=rank)


def _problem(manifest: Manifest, variant: Variant, facts: Facts, means: Means) -> str:
    """Why a variant does not fit; empty: it does."""
    if not _is_judged(manifest, variant.name):
        return "no golden vectors judge it"
    if variant.delegate not in DELEGATES:
        return f"its delegate, number {variant.delegate}, is not known to this agent"
    if variant.threads > means.threads:
        return f"it needs {variant.threads} threads, there are {means.threads} here"
    if 0 < variant.accuracy < manifest.accuracy_floor - ROUNDING:
        return f"its accuracy, {variant.accuracy:.2%}, is below the version's floor of {manifest.accuracy_floor:.2%}"
    try:
        requirements.check(manifest.requirements, variant.name, facts)
    except Incompatible as error:
        return str(error)
    return ""


def _nothing_fits(
    manifest: Manifest, order: Sequence[Variant], facts: Facts, problems: Mapping[str, str]
) -> Unusable | Incompatible:
    for variant in order:
        if not _is_judged(manifest, variant.name):
            continue
        try:
            requirements.check(manifest.requirements, variant.name, facts)
        except Incompatible as error:
            return error
    names = ", ".join(repr(variant.name) for variant in order) or "none"
    reasons = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
    return Unusable(f"no variant can be run here: the manifest has {names}" + (f" ({reasons})" if reasons else ""))


def _known(fitting: Sequence[Variant], former: Table) -> dict[str, Measured]:
    """The rows of an earlier version of the same network: of the variant it took, and of clearly slower ones."""
    before = {row.variant: row for row in former.rows if row.measured_in and not row.problem}
    alike = {variant.name for variant in fitting if _is_alike(variant, before.get(variant.name))}
    if former.chosen not in alike:
        return {}
    bound = CLEARLY_SLOWER * before[former.chosen].frame_us
    known = (one for one in fitting if one.name in alike)
    kept = (one for one in known if one.name == former.chosen or before[one.name].frame_us >= bound)
    # The size stays that of the file that was measured, so that many small steps do not add up unseen.
    return {one.name: replace(before[one.name], accuracy=one.accuracy) for one in kept}


def _is_alike(variant: Variant, row: Measured | None) -> bool:
    return row is not None and row.form == _form(variant) and abs(variant.artifact.size - row.size) <= ALIKE * row.size


def _affordable(variants: Sequence[Variant], files: int) -> tuple[Variant, ...]:
    """The first of them that have so many files together."""
    digests: list[bytes] = []
    taken = []
    for variant in variants:
        if variant.artifact.digest not in digests:
            digests.append(variant.artifact.digest)
        if digests.index(variant.artifact.digest) < files:
            taken.append(variant)
    return tuple(taken[:MOST_MEASURED])


def _row(variant: Variant, means: Means) -> Measured:
    threads = threads_of(variant, means.threads)
    return Measured(variant.name, threads, variant.accuracy, _form(variant), variant.artifact.size)


def _form(variant: Variant) -> str:
    """What makes the time of two files of one size comparable: tensors, delegate, threads."""
    tensors = (spec.SerializeToString(deterministic=True) for spec in (variant.input, variant.output))
    return hashlib.sha256(repr((*tensors, variant.delegate, variant.threads)).encode()).hexdigest()[:16]


def _is_judged(manifest: Manifest, variant: str) -> bool:
    return bool(manifest.golden) and all(
        any(expected.variant == variant for expected in vector.expected) for vector in manifest.golden
    )
