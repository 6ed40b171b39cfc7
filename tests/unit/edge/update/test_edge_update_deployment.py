from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from edge.foundation.clock import EARLIEST_MS
from edge.update import deployment
from edge.update.deployment import Expired, NotForUs
from edge.update.entities import Target
from protos.kit import envelope
from protos.v1.deployment_pb2 import Deployment
from protos.v1.manifest_pb2 import Manifest

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
TRUSTED = {envelope.key_id(KEY.public_key()): KEY.public_key()}
DAY_MS = 86_400_000
GOOD = Deployment(
    device="edge-1",
    slot="default",
    model="digits",
    version=2,
    manifest=b"m" * 32,
    generation=7,
    issued_ms=EARLIEST_MS + DAY_MS,
    expires_ms=EARLIEST_MS + 2 * DAY_MS,
    rollout="r1",
)


def signed(message: Deployment, key: Ed25519PrivateKey = KEY, purpose: str = envelope.DEPLOYMENT) -> bytes:
    return envelope.sign(purpose, message.SerializeToString(), key).SerializeToString()


def changed(**fields: object) -> Deployment:
    message = Deployment()
    message.CopyFrom(GOOD)
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def read(data: bytes) -> Target:
    return deployment.read(data, "edge-1", "default", TRUSTED)


def test_a_good_deployment_is_read_whole() -> None:
    assert read(signed(GOOD)) == Target(
        "default", "digits", 2, b"m" * 32, 7, EARLIEST_MS + DAY_MS, EARLIEST_MS + 2 * DAY_MS, "r1"
    )


def test_an_empty_manifest_asks_for_no_model() -> None:
    assert read(signed(changed(manifest=b"", model="", version=0))).manifest == b""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xff",
        signed(GOOD, OTHER_KEY),
        signed(GOOD, purpose=envelope.MANIFEST),
        signed(changed(device="edge-2")),
        signed(changed(slot="second")),
        signed(changed(manifest=b"short")),
        signed(changed(model="Not a name")),
        GOOD.SerializeToString(),
        envelope.sign(envelope.DEPLOYMENT, b"\xff\xff", KEY).SerializeToString(),
    ],
    ids=["empty", "noise", "other key", "manifest's signature", "other device", "other slot", "digest", "name",
         "unsigned", "signed noise"],
)  # fmt: skip
def test_what_is_not_for_this_device_is_not_believed(data: bytes) -> None:
    with pytest.raises(NotForUs):
        read(data)


@given(st.integers(0, len(signed(GOOD)) - 1), st.integers(1, 255))
def test_a_changed_byte_never_changes_the_target(place: int, difference: int) -> None:
    data = bytearray(signed(GOOD))
    data[place] ^= difference
    try:
        target = read(bytes(data))
    except NotForUs:
        return
    assert target == read(signed(GOOD))


@pytest.mark.parametrize("newest", [7, 8])
def test_a_generation_that_is_not_newer_is_not_taken(newest: int) -> None:
    with pytest.raises(NotForUs, match="not newer"):
        deployment.check_generation(read(signed(GOOD)), newest)


def test_a_newer_generation_is_taken() -> None:
    deployment.check_generation(read(signed(GOOD)), 6)


def test_an_expired_deployment_says_both_times_and_what_to_do() -> None:
    with pytest.raises(Expired, match=r"expired at 2026-01-03T00:00:00\+00:00, it is 2026-01-04.*clock"):
        deployment.check_expiry(read(signed(GOOD)), EARLIEST_MS + 3 * DAY_MS, 0)


@pytest.mark.parametrize("now_ms", [0, EARLIEST_MS, EARLIEST_MS + DAY_MS])
def test_a_clock_that_stands_does_not_block_an_update(now_ms: int) -> None:
    deployment.check_expiry(read(signed(GOOD)), now_ms, 0)


def test_a_clock_at_1970_does_not_bring_back_what_a_later_deployment_shows_to_be_expired() -> None:
    with pytest.raises(Expired):
        deployment.check_expiry(read(signed(GOOD)), 0, EARLIEST_MS + 2 * DAY_MS)


def test_a_deployment_from_before_this_code_existed_has_expired_whatever_the_clock_says() -> None:
    old = read(signed(changed(issued_ms=1, expires_ms=EARLIEST_MS)))
    with pytest.raises(Expired):
        deployment.check_expiry(old, 0, 0)


def test_an_expiry_beyond_every_calendar_is_no_error() -> None:
    with pytest.raises(Expired, match="ms"):
        deployment.check_expiry(read(signed(GOOD)), 2**63, 0)


@pytest.mark.parametrize("manifest", [Manifest(model="digits", version=3), Manifest(model="faces", version=2)])
def test_a_manifest_of_another_model_or_version_is_refused(manifest: Manifest) -> None:
    with pytest.raises(ValueError, match="digits version 2"):
        deployment.check_manifest(read(signed(GOOD)), manifest)


def test_the_manifest_of_the_named_version_is_accepted() -> None:
    deployment.check_manifest(read(signed(GOOD)), Manifest(model="digits", version=2))
