"""A fleet on the session's cluster: the images, both charts, and a first version that every node runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulators.kubernetes import Cluster
from tests.cluster.fleet import images_kit, sensors_kit
from tests.cluster.fleet.fleet_kit import Fleet


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def images(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The images of this working copy are on all nodes. LITTORAL_TEST_IMAGES keeps their archive for further runs."""
    if os.environ.get("LITTORAL_TEST_KUBECONFIG"):
        return  # they are there, or in a registry that it pulls from
    folder = tmp_path_factory.mktemp("images")
    archive = Path(os.environ.get("LITTORAL_TEST_IMAGES", folder / "images.tar"))
    if not archive.exists():
        images_kit.build(cluster, folder, archive)
    cluster.load(archive)
    if archive.parent == folder:
        archive.unlink()


@pytest.fixture(scope="session")
def fleet(cluster: Cluster, images: None, tmp_path_factory: pytest.TempPathFactory) -> Fleet:  # noqa: ARG001 - they are there
    """Both charts, installed; no model yet."""
    made = Fleet(cluster, tmp_path_factory.mktemp("fleet"))
    made.install()
    return made


@pytest.fixture
def fed(fleet: Fleet) -> Iterator[Fleet]:
    """The fleet with a model on every node, under load: sensors feed every agent until the test settles them."""
    fleet.ensure_model()
    sensors_kit.start(fleet)
    yield fleet
    sensors_kit.stop(fleet)
