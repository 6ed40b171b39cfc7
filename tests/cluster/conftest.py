"""One cluster for all tests that need nodes; each test has a namespace of its own."""

from __future__ import annotations

from collections.abc import Iterator

import kubernetes
import pytest

from simulators.kubernetes import Cluster, NoKubernetes
from simulators.kubernetes import cluster as made_cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes, up for the whole session."""
    folder = tmp_path_factory.mktemp("cluster")
    try:
        with made_cluster(folder) as made:
            yield made
    except NoKubernetes as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def core(cluster: Cluster) -> kubernetes.client.CoreV1Api:
    """Its API for what is no application: pods, nodes, Secrets."""
    return kubernetes.client.CoreV1Api(kubernetes.config.new_client_from_config(str(cluster.kubeconfig)))
