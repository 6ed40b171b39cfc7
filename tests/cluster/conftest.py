"""One cluster for all tests that need nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import kubernetes
import pytest
from xdist.scheduler import LoadScopeScheduling

from simulators.kubernetes import Cluster
from simulators.kubernetes import cluster as made_cluster
from tests.cluster.missing import or_skipped

NODES = ("fleet/", "nodes/test_two_nodes", "nodes/test_cluster_leaves_nothing")
"""What needs the cluster, or this machine without anybody else's."""


class Together(LoadScopeScheduling):
    """What uses one cluster, or one control plane, goes to one process: else each would make its own."""

    def _split_scope(self, nodeid: str) -> str:
        place = nodeid.partition("tests/cluster/")[2]
        return "cluster" if place.startswith(NODES) else place.partition("/")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    """How the tests are divided where there are several processes."""
    return Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, while another process goes through the rest."""
    items.sort(key=lambda item: not item.nodeid.partition("tests/cluster/")[2].startswith(NODES))


class Given:
    """A cluster that somebody else has made: what takes more than its API is skipped."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        api = kubernetes.client.CoreV1Api(kubernetes.config.new_client_from_config(str(kubeconfig)))
        self.nodes = tuple(sorted(node.metadata.name for node in api.list_node().items))

    def __getattr__(self, name: str) -> NoReturn:
        pytest.skip(f"{name}: not on the cluster of LITTORAL_TEST_KUBECONFIG")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster | Given]:
    """Two nodes, up for the whole session."""
    if given := os.environ.get("LITTORAL_TEST_KUBECONFIG"):
        yield Given(Path(given))
        return
    with or_skipped(), made_cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture(scope="session")
def core(cluster: Cluster) -> kubernetes.client.CoreV1Api:
    """Its API for what is no application: pods, nodes, Secrets."""
    return kubernetes.client.CoreV1Api(kubernetes.config.new_client_from_config(str(cluster.kubeconfig)))
