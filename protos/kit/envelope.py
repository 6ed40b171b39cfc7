"""Signed envelopes: Ed25519 (RFC 8032) over purpose, zero byte, payload.

The purpose is part of what is signed, so that a signature made for one kind of message never serves for another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from google.protobuf.message import DecodeError

from protos.v1 import manifest_pb2

MANIFEST = "littoral/v1/manifest"
DEPLOYMENT = "littoral/v1/deployment"
RECEIPT = "littoral/v1/receipt"


class Untrusted(Exception):
    """The bytes are not what a trusted key signed. Drop them; nothing in them may be believed."""


def key_id(public_key: Ed25519PublicKey) -> str:
    """Lower-case hex SHA-256 of the raw public key."""
    return hashlib.sha256(public_key.public_bytes_raw()).hexdigest()


def sign(purpose: str, payload: bytes, *keys: Ed25519PrivateKey) -> manifest_pb2.Signed:
    """Wrap `payload` with one signature for each key."""
    signed = manifest_pb2.Signed(payload=payload)
    for key in keys:
        signed.signatures.add(key_id=key_id(key.public_key()), value=key.sign(_to_be_signed(purpose, payload)))
    return signed


def parse(data: bytes) -> manifest_pb2.Signed:
    """The envelope in `data`; Untrusted if there is none."""
    try:
        return manifest_pb2.Signed.FromString(data)
    except DecodeError as error:
        raise Untrusted("not a signed envelope") from error


def verify(
    purpose: str, signed: manifest_pb2.Signed, keys: Mapping[str, Ed25519PublicKey], threshold: int = 1
) -> bytes:
    """Return the payload if at least `threshold` different keys of `keys` (by key id) signed it; raise Untrusted."""
    message = _to_be_signed(purpose, signed.payload)
    good = {s.key_id for s in signed.signatures if s.key_id in keys and _is_valid(keys[s.key_id], s.value, message)}
    if len(good) < threshold:
        raise Untrusted(f"{len(good)} of {threshold} needed signatures by a trusted key for {purpose}")
    return signed.payload


def _is_valid(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _to_be_signed(purpose: str, payload: bytes) -> bytes:
    return purpose.encode() + b"\0" + payload
