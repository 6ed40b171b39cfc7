"""What becomes of tests where no Kubernetes can be run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from simulators.kubernetes import NoKubernetes


@contextmanager
def or_skipped() -> Iterator[None]:
    """Skip what needs a Kubernetes if this machine cannot run one, and say what it lacks."""
    try:
        yield
    except NoKubernetes as missing:
        pytest.skip(str(missing))
