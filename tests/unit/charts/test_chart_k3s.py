"""What K3s deploys by itself: the manifest fits the charts, and the bundle's files get to where K3s looks for them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts import HELM, ROOT, named, render

MANIFEST = HELM / "k3s" / "littoral.yaml"
FILES = ["images/littoral-0.1.0-amd64.tar.zst", "charts/littoral-0.1.0.tgz", "manifests/littoral.yaml"]


@pytest.fixture(scope="module")
def objects() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(MANIFEST.read_text()))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """As scripts/airgap packs it, with files of no size."""
    folder = tmp_path / "bundle"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    sums = [f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n" for name in FILES]
    (folder / "SHA256SUMS").write_text("".join(sums))
    shutil.copy(HELM / "k3s" / "install", folder)
    return folder


def install(bundle: Path, kind: str, data: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "K3S_DATA": str(data)}
    return subprocess.run([bundle / "install", kind], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("chart", ["littoral", "littoral-edge"])
def test_charts_have_the_version_of_what_they_install(chart: str) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    found = yaml.safe_load((HELM / chart / "Chart.yaml").read_text())
    assert (found["version"], found["appVersion"]) == (version, version)


@pytest.mark.parametrize("chart", ["littoral", "littoral-edge"])
def test_k3s_is_told_of_this_version_and_of_values_that_the_chart_knows(
    chart: str, objects: list[dict[str, Any]]
) -> None:
    spec = named(objects, "HelmChart", chart)["spec"]
    version = yaml.safe_load((HELM / chart / "Chart.yaml").read_text())["version"]
    assert spec["chart"] == f"https://%{{KUBERNETES_API}}%/static/charts/{chart}-{version}.tgz"
    assert render(chart, yaml.safe_load(spec["valuesContent"]))


def test_values_that_k3s_gives_to_every_chart_are_taken() -> None:
    assert render("littoral", {"global": {"clusterCIDR": "10.42.0.0/16", "systemDefaultRegistry": ""}})


def test_each_chart_gets_a_namespace_at_the_level_that_it_needs(objects: list[dict[str, Any]]) -> None:
    for chart, level in {"littoral": "restricted", "littoral-edge": "privileged"}.items():
        target = named(objects, "HelmChart", chart)["spec"]["targetNamespace"]
        labels = named(objects, "Namespace", target)["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == level


def test_the_agents_of_the_manifest_find_its_cloud(objects: list[dict[str, Any]]) -> None:
    cloud = named(objects, "HelmChart", "littoral")
    release, namespace = cloud["metadata"]["name"], cloud["spec"]["targetNamespace"]
    values = yaml.safe_load(named(objects, "HelmChart", "littoral-edge")["spec"]["valuesContent"])
    made = render("littoral", {}, release)
    for address, service in ((values["uplink"], f"{release}-ingest"), (values["api"], f"{release}-api")):
        port = named(made, "Service", service)["spec"]["ports"][0]["port"]
        assert address.removeprefix("http://") == f"{service}.{namespace}.svc:{port}"


def test_a_device_gets_the_images_alone(bundle: Path, tmp_path: Path) -> None:
    assert install(bundle, "agent", tmp_path / "k3s").returncode == 0
    assert installed(tmp_path / "k3s") == {"agent/images/littoral-0.1.0-amd64.tar.zst"}


def test_a_server_gets_the_charts_and_the_manifest_too_and_a_second_time_changes_nothing(
    bundle: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        assert install(bundle, "server", tmp_path / "k3s").returncode == 0
        assert installed(tmp_path / "k3s") == {
            "agent/images/littoral-0.1.0-amd64.tar.zst",
            "server/static/charts/littoral-0.1.0.tgz",
            "server/manifests/littoral.yaml",
        }


def test_a_damaged_bundle_is_not_installed(bundle: Path, tmp_path: Path) -> None:
    (bundle / FILES[0]).write_text("other bytes")
    done = install(bundle, "server", tmp_path / "k3s")
    assert done.returncode != 0
    assert FILES[0] in done.stdout + done.stderr
    assert not (tmp_path / "k3s").exists()


def test_who_does_not_say_what_the_machine_is_is_told_how(bundle: Path, tmp_path: Path) -> None:
    done = install(bundle, "", tmp_path / "k3s")
    assert done.returncode != 0
    assert "usage: ./install agent|server" in done.stderr


def installed(data: Path) -> set[str]:
    return {str(path.relative_to(data)) for path in data.rglob("*") if path.is_file()}
