"""Which devices a challenger goes to, which words of theirs are believed, and what these come to. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from cloud.fleet.entities import Device, Slot, UpdateState
from cloud.shadow.entities import BadComparison, Challenge, Duel, Measures, NoDevices, Request, Standing, State
from protos import topics
from protos.kit import sketches
from protos.v1.sketches_pb2 import Comparison

SHOWN = 10
MAX_REASON_CHARACTERS = 1000
MAX_PAIRS = 512

DONE_WITHOUT = {UpdateState.REFUSED, UpdateState.ROLLED_BACK}


def targets(request: Request, devices: Sequence[Device]) -> list[str]:
    """The devices that a request means, but for those whose champion is the very version. Raises NoDevices."""
    meant = [device for device in devices if _means(request, device.id, device.labels)]
    if unknown := request.devices - {device.id for device in devices}:
        raise NoDevices(
            f"no device {', '.join(sorted(unknown)[:SHOWN])} has reported: `littoral devices list` shows all"
        )
    if not meant:
        raise NoDevices(
            "no device has these labels: `littoral devices list` and `littoral devices show` tell which have"
        )
    found = [device.id for device in meant if not _is_champion(request, device.slots.get(request.slot))]
    if not found:
        raise NoDevices(
            f"on each of the {len(meant)} devices {request.model} {request.version} is the champion already: "
            "a challenger is another version"
        )
    return found


def running(
    request: Request, challenges: Iterable[Challenge], labels: Mapping[str, Mapping[str, str]]
) -> list[Challenge]:
    """Of a version's challenges those that a request means, and nobody has stopped. Raises NoDevices.

    labels: by device; one that was forgotten has none.
    """
    found = [
        one
        for one in challenges
        if one.slot == request.slot and not one.stopped_ms and _means(request, one.device, labels.get(one.device, {}))
    ]
    if not found:
        raise NoDevices(
            f"{request.model} {request.version} is no challenger on any of these devices: "
            "`littoral shadow show` tells where it is"
        )
    return found


def check(comparison: Comparison) -> None:
    """Raise BadComparison that says which limit it breaks."""
    try:
        topics.checked_name(comparison.slot, "slot")
    except ValueError as error:
        raise BadComparison(str(error)) from error
    if (size := comparison.ByteSize()) > sketches.MAX_BYTES:
        raise BadComparison(f"it has {size} bytes, at most {sketches.MAX_BYTES} are taken")
    if not comparison.agreed <= comparison.compared <= comparison.offered < sketches.MAX_COUNT:
        raise BadComparison("more frames agreed than were compared, or more compared than offered")
    _check_columns(comparison)
    sums = (comparison.champion_confidence, comparison.challenger_confidence)
    if not all(0 <= value < sketches.MAX_COUNT for value in sums):
        raise BadComparison("its sums of confidence are not numbers from 0 up")


def _check_columns(comparison: Comparison) -> None:
    pairs = (comparison.champion_label, comparison.challenger_label, comparison.pair_frames)
    if len({len(column) for column in pairs}) > 1 or len(comparison.pair_frames) > MAX_PAIRS:
        raise BadComparison(f"its pairs of labels are columns of {', '.join(str(len(column)) for column in pairs)}")
    if sum(comparison.pair_frames) > comparison.compared:
        raise BadComparison("more pairs of labels than frames were compared")
    for name, bins in (
        ("confidence_change", sketches.CHANGE_BINS),
        ("champion_cost", sketches.COST_BINS),
        ("challenger_cost", sketches.COST_BINS),
    ):
        column: Sequence[int] = getattr(comparison, name)
        if len(column) not in {0, bins} or sum(column) > comparison.compared:
            raise BadComparison(f"{name} has {len(column)} bins for {comparison.compared} frames, there are {bins}")


def is_of(challenge: Challenge, comparison: Comparison) -> bool:
    """Whether a device speaks of the challenger that it was given last: it may be behind."""
    return (challenge.generation, challenge.manifest) == (comparison.generation, comparison.challenger)


def standing(challenge: Challenge, slot: Slot | None, champion: tuple[str, int] | None) -> Standing:
    """Where a challenge stands, by what the device reports of the challenger's slot."""
    ended = challenge.comparison.ended.replace("\0", "")[:MAX_REASON_CHARACTERS]
    answered = slot if slot and slot.generation == challenge.generation else None
    state, reason = State.REQUESTED, answered.reason if answered else ""
    if challenge.stopped_ms:
        state, reason = State.STOPPED, ended
    elif answered and answered.state in DONE_WITHOUT:
        state, reason = State.REFUSED, ended or answered.reason
    elif ended:
        state, reason = State.ENDED, ended
    elif answered and answered.state is UpdateState.COMMITTED:
        state = State.RUNNING
    return Standing(challenge, state, reason, champion)


def measures(comparisons: Iterable[Comparison]) -> Measures:
    """What these comparisons come to together."""
    told = list(comparisons)
    compared, agreed = sum(one.compared for one in told), sum(one.agreed for one in told)
    change = sum(one.challenger_confidence - one.champion_confidence for one in told)
    champion = _summed(one.champion_cost for one in told)
    challenger = _summed(one.challenger_cost for one in told)
    return Measures(
        offered=sum(one.offered for one in told),
        compared=compared,
        agreed=agreed,
        agreement=agreed / compared if compared else None,
        change=change / compared if compared else None,
        champion_p50_us=sketches.cost_quantile(champion, 0.5),
        champion_p95_us=sketches.cost_quantile(champion, 0.95),
        challenger_p50_us=sketches.cost_quantile(challenger, 0.5),
        challenger_p95_us=sketches.cost_quantile(challenger, 0.95),
        confusions=_confusions(told),
    )


def duels(standings: Iterable[Standing]) -> list[Duel]:
    """The standings' comparisons of each pair of versions together, where both are known."""
    groups: dict[tuple[tuple[str, int], tuple[str, int]], list[Comparison]] = {}
    for one in standings:
        if one.champion:
            pair = one.champion, (one.challenge.model, one.challenge.version)
            groups.setdefault(pair, []).append(one.challenge.comparison)
    return [Duel(*pair, len(group), measures(group)) for pair, group in sorted(groups.items())]


def _means(request: Request, device: str, labels: Mapping[str, str]) -> bool:
    return (not request.devices or device in request.devices) and request.selector.items() <= labels.items()


def _is_champion(request: Request, slot: Slot | None) -> bool:
    return slot is not None and (slot.running_model, slot.running_version) == (request.model, request.version)


def _summed(columns: Iterable[Sequence[int]]) -> list[int]:
    return [sum(bins) for bins in zip(*(column for column in columns if column), strict=True)]


def _confusions(told: Iterable[Comparison]) -> tuple[tuple[int, int, int], ...]:
    counted: Counter[tuple[int, int]] = Counter()
    for one in told:
        for first, second, frames in zip(one.champion_label, one.challenger_label, one.pair_frames, strict=True):
            if first != second:
                counted[first, second] += frames
    ordered: Mapping[tuple[int, int], int] = dict(counted.most_common(SHOWN))
    return tuple((first, second, frames) for (first, second), frames in ordered.items())
