"""What the fleet's metadata says: pure changes of TUF's objects, before they are signed.

The Update Framework, specification 1.0.34: https://theupdateframework.github.io/specification/v1.0.34/
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from securesystemslib.signer import Key
from tuf.api.metadata import DelegatedRole, Delegations, Root, TargetFile, Targets

from cloud.identity.entities import DIRECTOR_KEYS, OFFLINE, RESERVED, MetadataFailed
from protos.topics import checked_name

KEPT_APART = ("deployment", "manifest", "metadata", "models")
"""The Secrets that the server's keys are divided into, by what they sign: a role is given those that it needs."""

MOST_LISTED = 256
"""Versions of one model that devices may be given: older ones leave the metadata, so that it fits into one message."""


def check_model(model: str) -> None:
    """Raise MetadataFailed for a name that cannot be a role of its own."""
    if model in RESERVED:
        raise MetadataFailed(f"no model can be named {model!r}: the fleet's own metadata has this name")
    try:
        checked_name(model, "model")
    except ValueError as error:
        raise MetadataFailed(str(error)) from error


def first_root(offline: Mapping[str, Sequence[Key]], online: Mapping[str, Key], threshold: int) -> Root:
    """A root whose offline roles need `threshold` of their keys, its online roles their one key."""
    root = Root(consistent_snapshot=True)
    for role, keys in offline.items():
        replace_keys(root, role, keys, threshold)
    for role, key in online.items():
        replace_keys(root, role, [key], 1)
    return root


def replace_keys(root: Root, role: str, keys: Sequence[Key], threshold: int) -> None:
    """`role` is signed by `keys` from now on, and by no former one."""
    if not 1 <= threshold <= len(keys):
        raise MetadataFailed(f"{threshold} of {len(keys)} keys cannot sign for {role}: a threshold is 1 to the keys")
    for keyid in list(root.roles[role].keyids):
        root.revoke_key(keyid, role)
    for key in keys:
        root.add_key(key, role)
    root.roles[role].threshold = threshold


def delegate(targets: Targets, model: str, key: Key) -> None:
    """The versions of `model`, and nothing else, are signed by `key` and no former one."""
    check_model(model)
    targets.delegations = targets.delegations or Delegations({}, {})
    roles = targets.delegations.roles
    assert roles is not None, "delegations are by name"
    if model in roles:
        for keyid in list(roles[model].keyids):
            targets.revoke_key(keyid, model)
    else:
        roles[model] = DelegatedRole(model, [], threshold=1, terminating=True, paths=[f"{model}/*"])
    targets.add_key(key, model)


def delegated(targets: Targets) -> list[str]:
    """The names of the models that have a role."""
    return list((targets.delegations and targets.delegations.roles) or {})


def name_directors(targets: Targets, keys: Mapping[str, str]) -> None:
    """Deployments count that one of `keys` signed, raw public keys in hex by key id."""
    data = json.dumps(keys, sort_keys=True).encode()
    target = TargetFile.from_data(DIRECTOR_KEYS, data, ["sha256"])
    target.unrecognized_fields["custom"] = dict(keys)
    targets.targets[DIRECTOR_KEYS] = target


def directors(targets: Targets) -> dict[str, str]:
    """What `name_directors` wrote last."""
    named = targets.targets.get(DIRECTOR_KEYS)
    return dict(named.custom) if named else {}


def add_version(targets: Targets, model: str, version: int, manifest: bytes) -> None:
    """List a version in its model's role; the oldest beyond `MOST_LISTED` leave it. manifest: the payload's bytes."""
    path = f"{model}/{version}"
    targets.targets[path] = TargetFile(len(manifest), {"sha256": hashlib.sha256(manifest).hexdigest()}, path)
    for old in sorted(targets.targets, key=_version)[:-MOST_LISTED]:
        del targets.targets[old]


def _version(path: str) -> int:
    return int(path.rpartition("/")[2])


def founding_order(name: str) -> tuple[int, ...]:
    """Where a file of offline metadata comes when a fleet is begun with it; nothing true for any other file."""
    version, _, role = name.removesuffix(".json").partition(".")
    if not version.isdecimal() or role not in OFFLINE or not name.endswith(".json"):
        return ()
    return OFFLINE.index(role), int(version)


def kept_with(name: str) -> str:
    """Which of KEPT_APART a file beside the server's keys belongs to."""
    stem = name.partition(".")[0].removesuffix("-next")
    return stem if stem in {"deployment", "manifest"} else "models" if stem == "model" else "metadata"
