"""Two nodes with real pods, which can be cut off and healed."""

from __future__ import annotations

import kubernetes
import pytest

from simulators.kubernetes import Cluster
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)


def _ready(api: kubernetes.client.CoreV1Api) -> dict[str, str]:
    nodes = api.list_node().items
    return {it.metadata.name: next(c.status for c in it.status.conditions if c.type == "Ready") for it in nodes}


def test_a_node_that_is_cut_off_is_seen_as_such_and_comes_back(
    cluster: Cluster, core: kubernetes.client.CoreV1Api
) -> None:
    assert _ready(core) == {"alpha": "True", "beta": "True"}

    cluster.cut("beta")
    until(lambda: _ready(core) == {"alpha": "True", "beta": "Unknown"})

    cluster.heal("beta")
    until(lambda: _ready(core) == {"alpha": "True", "beta": "True"})
