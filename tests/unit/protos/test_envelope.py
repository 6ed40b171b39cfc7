"""Signed envelopes: only what a trusted key signed, for this purpose, is believed."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from protos.kit import envelope

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
TRUSTED = {envelope.key_id(KEY.public_key()): KEY.public_key()}
BOTH = TRUSTED | {envelope.key_id(OTHER.public_key()): OTHER.public_key()}


@given(st.binary(max_size=200))
def test_what_a_trusted_key_signed_comes_back_unchanged(payload: bytes) -> None:
    data = envelope.sign(envelope.MANIFEST, payload, KEY).SerializeToString()
    assert envelope.verify(envelope.MANIFEST, envelope.parse(data), TRUSTED) == payload


@given(position=st.integers(0), flip=st.integers(1, 255))
def test_a_changed_byte_anywhere_is_never_believed_as_something_else(position: int, flip: int) -> None:
    payload = b"the model for the field"
    data = bytearray(envelope.sign(envelope.MANIFEST, payload, KEY).SerializeToString())
    data[position % len(data)] ^= flip
    try:
        believed = envelope.verify(envelope.MANIFEST, envelope.parse(bytes(data)), TRUSTED)
    except envelope.Untrusted:
        return
    assert believed == payload


def test_a_signature_for_one_purpose_does_not_serve_another() -> None:
    signed = envelope.sign(envelope.MANIFEST, b"payload", KEY)
    with pytest.raises(envelope.Untrusted):
        envelope.verify(envelope.DEPLOYMENT, signed, TRUSTED)


def test_a_key_that_is_not_trusted_counts_for_nothing() -> None:
    with pytest.raises(envelope.Untrusted):
        envelope.verify(envelope.MANIFEST, envelope.sign(envelope.MANIFEST, b"payload", OTHER), TRUSTED)


def test_the_same_key_twice_does_not_reach_a_threshold_of_two() -> None:
    with pytest.raises(envelope.Untrusted):
        envelope.verify(envelope.MANIFEST, envelope.sign(envelope.MANIFEST, b"x", KEY, KEY), BOTH, threshold=2)


def test_two_keys_reach_a_threshold_of_two() -> None:
    signed = envelope.sign(envelope.MANIFEST, b"x", KEY, OTHER)
    assert envelope.verify(envelope.MANIFEST, signed, BOTH, threshold=2) == b"x"


def test_bytes_that_are_no_envelope_are_untrusted() -> None:
    with pytest.raises(envelope.Untrusted):
        envelope.parse(b"\xff\xff\xff")
