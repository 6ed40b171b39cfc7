"""Where Kubernetes' programs are that `scripts/kubernetes` built."""

from __future__ import annotations

import os
from pathlib import Path

VERSION = "v1.34.4"
"""The version in scripts/go/kubernetes/go.mod; the cache's folder is named by it."""


class NoKubernetes(Exception):
    """This machine cannot run a Kubernetes for tests; the message says what it lacks and how to get it."""


def cache() -> Path:
    """What is made once and kept: LITTORAL_CACHE, or littoral below the user's cache."""
    return Path(os.environ.get("LITTORAL_CACHE") or Path.home() / ".cache" / "littoral")


def folder() -> Path:
    """The folder of the programs. Raises NoKubernetes."""
    made = cache() / f"kubernetes-{VERSION}"
    if not all((made / name).is_file() for name in ("built-from", "policies-built-from")):
        raise NoKubernetes(f"Kubernetes is not built in {made}: scripts/kubernetes builds it, in some minutes")
    return made
