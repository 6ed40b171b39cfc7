"""Whether a message on the desired topic is a deployment for this device: pure, and verified before it is parsed."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.message import DecodeError

from edge.foundation import clock
from edge.update.entities import Target
from protos import topics
from protos.kit import envelope
from protos.v1.deployment_pb2 import Deployment
from protos.v1.manifest_pb2 import Manifest

DIGEST_BYTES = 32


class NotForUs(Exception):
    """No deployment that this device may believe or has to act on. Drop it; the message says why."""


class Expired(Exception):
    """A genuine deployment that came too late to be started. It is no refusal: the cloud may sign it anew."""


def read(data: bytes, device: str, slot: str, keys: Mapping[str, Ed25519PublicKey]) -> Target:
    """The target in a serialized Signed Deployment on this device's topic for `slot`.

    Raises NotForUs for a signature by no trusted key, another device or slot, or fields without sense.
    """
    try:
        payload = envelope.verify(envelope.DEPLOYMENT, envelope.parse(data), keys)
        deployment = Deployment.FromString(payload)
    except envelope.Untrusted as error:
        raise NotForUs(str(error)) from error
    except DecodeError as error:
        raise NotForUs("signed, but not a deployment") from error
    if deployment.device != device:
        raise NotForUs(f"it names device {deployment.device!r}")
    if deployment.slot != slot:
        raise NotForUs(f"it names slot {deployment.slot!r}, its topic {slot!r}")
    _check_share(deployment)
    return _target(deployment)


def check_generation(target: Target, newest: int) -> None:
    """Raises NotForUs unless the target is newer than the `newest` generation that was accepted."""
    if target.generation <= newest:
        raise NotForUs(f"generation {target.generation} is not newer than {newest}")


def check_expiry(target: Target, now_ms: int, newest_issued_ms: int) -> None:
    """Raises Expired when the deployment's time is over.

    A device's clock may stand at 1970. Real time is at least that of this code and of every deployment that a trusted
    key has signed, so the latest of these counts: a clock that stands neither blocks an update nor starts one that is
    known to have expired.
    """
    now_ms = clock.at_least(now_ms, newest_issued_ms, target.issued_ms)
    if now_ms >= target.expires_ms:
        raise Expired(
            f"the deployment of generation {target.generation} expired at {clock.text(target.expires_ms)}, it is "
            f"{clock.text(now_ms)} here: set the device's clock if that is wrong, or deploy again"
        )


def check_manifest(target: Target, manifest: Manifest) -> None:
    """Raises ValueError unless the manifest is of the model and version that the deployment names."""
    if (manifest.model, manifest.version) != (target.model, target.version):
        raise ValueError(
            f"the deployment says {target.model} version {target.version}, "
            f"its manifest {manifest.model} version {manifest.version}"
        )


def _check_share(deployment: Deployment) -> None:
    """A challenger never answers as a champion, nor a champion as a challenger."""
    share, slot = deployment.shadow_share, deployment.slot
    if not 0 <= share <= 1:
        raise NotForUs(f"a challenger's share of the frames is {share:g}: it is above 0 and at most 1")
    if deployment.manifest and topics.is_shadow(slot) != (share > 0):
        kind = "a challenger" if share else "no challenger"
        raise NotForUs(f"it names {kind}, for slot {slot!r}")


def _target(deployment: Deployment) -> Target:
    if len(deployment.manifest) not in {0, DIGEST_BYTES}:
        raise NotForUs(f"its manifest digest has {len(deployment.manifest)} bytes")
    try:
        topics.checked_name(deployment.slot, "slot")
        if deployment.manifest:
            topics.checked_name(deployment.model, "model")
    except ValueError as error:
        raise NotForUs(str(error)) from error
    return Target(
        slot=deployment.slot,
        model=deployment.model,
        version=deployment.version,
        manifest=deployment.manifest,
        generation=deployment.generation,
        issued_ms=deployment.issued_ms,
        expires_ms=deployment.expires_ms,
        rollout=deployment.rollout,
        share=deployment.shadow_share,
    )
