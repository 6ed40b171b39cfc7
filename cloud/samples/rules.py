"""Which policies a device follows, and whether an offer can be taken. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from cloud.samples.entities import InvalidPolicy, Known, Offer, Policy
from protos.topics import MAX_SAMPLE_BYTES, NAME, checked_name

MAX_NUMBER = 2**62
MAX_REASON_CHARACTERS = 64
MAX_POLICIES = 64


def check_policy(policy: Policy) -> None:
    """Raise InvalidPolicy if no device could follow it."""
    try:
        checked_name(policy.name, "policy")
        if policy.model:
            checked_name(policy.model, "model")
    except ValueError as error:
        raise InvalidPolicy(str(error)) from error
    if not (0 <= policy.below <= 1 and 0 <= policy.share <= 1):
        raise InvalidPolicy(f"below {policy.below:g} and share {policy.share:g} must be from 0 to 1")
    if not (policy.below or policy.share or policy.disagreement):
        raise InvalidPolicy("it chooses nothing: give below, share or disagreement")
    if not 0 < policy.bytes_per_day < MAX_NUMBER:
        raise InvalidPolicy(f"bytes_per_day is {policy.bytes_per_day}: a budget has a byte at least")


def for_device(policies: Iterable[Policy], labels: Mapping[str, str]) -> tuple[Policy, ...]:
    """The policies that a device with these labels follows; of those for a model the first counts.

    One that names its model comes before one for any, one with more labels before one with fewer, then by name.
    """
    fitting = [policy for policy in policies if policy.selector.items() <= labels.items()]
    return tuple(sorted(fitting, key=lambda policy: (not policy.model, -len(policy.selector), policy.name)))


def complaint(offer: Offer, known: Known | None) -> str:
    """Why an offer can never be taken; empty if it can."""
    says = f"{offer.model[:64]!r} {offer.version}"
    if len(offer.digest) != 32:  # noqa: PLR2004 - bytes of a SHA-256
        return f"its digest has {len(offer.digest)} bytes, SHA-256 has 32"
    if not 0 < offer.size <= MAX_SAMPLE_BYTES:
        return f"{offer.size} bytes: a sample has 1 to {MAX_SAMPLE_BYTES}"
    if known is None:
        return f"model version {says} with manifest {offer.manifest[:32].hex()} is not registered here"
    if (offer.model, offer.version) != (known.model, known.version):
        return f"says {says}, but its manifest is that of {known.model!r} {known.version}"
    if offer.size != math.prod(known.shape):
        return f"{offer.size} bytes, but frames of {says} have {' x '.join(map(str, known.shape))} pixels"
    return _wrong_number(offer, known) or _wrong_text(offer)


def _wrong_number(offer: Offer, known: Known) -> str:
    if not (0 < offer.frame < MAX_NUMBER and offer.captured_us < MAX_NUMBER):
        return f"frame {offer.frame} captured at {offer.captured_us} us: both are below 2**62, frames count from 1"
    if offer.label >= known.classes:
        return f"label {offer.label}, but {offer.model!r} {offer.version} has {known.classes} classes"
    return "" if math.isfinite(offer.confidence) else "its confidence is no number"


def _wrong_text(offer: Offer) -> str:
    if not NAME.fullmatch(offer.source):
        return f"source {offer.source[:64]!r} is not a name"
    if not 0 < len(offer.reason) <= MAX_REASON_CHARACTERS:
        return f"its reason has {len(offer.reason)} characters: 1 to {MAX_REASON_CHARACTERS} are taken"
    return ""
