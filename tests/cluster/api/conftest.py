"""A control plane that knows our kinds, for all tests of what is decided without a node; each has its namespace."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import kubernetes
import pytest

from simulators.kubernetes import control_plane
from tests.cluster.api.live_kit import NAMESPACE, Live, apply_accounts, kubeconfig_of
from tests.cluster.api.objects_kit import Objects, apply_crds
from tests.cluster.missing import or_skipped

NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All rights on a control plane with our CRDs."""
    with or_skipped(), control_plane(tmp_path_factory.mktemp("plane")) as config:
        apply_crds(kubernetes.config.new_client_from_config(str(config)))
        yield config


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


@pytest.fixture(scope="session")
def controllers_kubeconfig(
    client: kubernetes.client.ApiClient, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """As the chart's controller: what its service account may not do, our code cannot."""
    apply_accounts(client)
    path = tmp_path_factory.mktemp("account") / "kubeconfig"
    return kubeconfig_of(client, kubeconfig, "littoral-controller", path)


@pytest.fixture
def shore(client: kubernetes.client.ApiClient, controllers_kubeconfig: Path) -> Objects:  # noqa: ARG001 - it makes the namespace
    """Our objects in the namespace that the controller follows."""
    return Objects(client, NAMESPACE)


@pytest.fixture
def live(
    shore: Objects, controllers_kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Live]:
    """A cloud with a controller. What a test leaves is deleted, and so no other test's business."""
    monkeypatch.setenv("KUBECONFIG", str(controllers_kubeconfig))
    made = Live(tmp_path)
    made.start()
    try:
        yield made
        shore.delete_all()
        made.until(lambda: not shore.left())
    finally:
        made.close()
