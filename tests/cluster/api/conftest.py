"""A control plane that knows our kinds, for all tests of what is decided without a node; each has its namespace."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import kubernetes
import pytest

from simulators.kubernetes import NoKubernetes, control_plane
from tests.cluster.api.objects_kit import Objects, apply_crds

NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All rights on a control plane with our CRDs."""
    try:
        with control_plane(tmp_path_factory.mktemp("plane")) as config:
            apply_crds(kubernetes.config.new_client_from_config(str(config)))
            yield config
    except NoKubernetes as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def client(kubeconfig: Path) -> kubernetes.client.ApiClient:
    """The official client with all rights."""
    return kubernetes.config.new_client_from_config(str(kubeconfig))


@pytest.fixture
def namespace(client: kubernetes.client.ApiClient) -> str:
    """One that nobody has used."""
    name = f"fleet-{next(NUMBERS)}"
    kubernetes.client.CoreV1Api(client).create_namespace({"metadata": {"name": name}})
    return name


@pytest.fixture
def objects(client: kubernetes.client.ApiClient, namespace: str) -> Objects:
    """Our objects in a namespace of their own."""
    return Objects(client, namespace)
