"""What the simulated Kubernetes needs to be right about itself; a running one is in tests/cluster."""

from __future__ import annotations

import tarfile
from pathlib import Path

from simulators.kubernetes import images, programs
from simulators.kubernetes.layout import Layout

ROOT = Path(__file__).resolve().parents[3]


def test_the_version_is_that_of_the_module_that_is_built() -> None:
    module = (ROOT / "scripts" / "go" / "kubernetes" / "go.mod").read_text().split()
    assert module[module.index("k8s.io/kubernetes") + 1] == programs.VERSION


def test_no_address_is_given_twice() -> None:
    layout = Layout("/nowhere", 7, "none")
    addresses = [layout.hub, layout.machine, *(node.address for node in layout.nodes())]
    assert len(set(addresses)) == len(addresses)
    assert len({node.pods for node in layout.nodes()}) == len(layout.nodes())


def test_an_image_holds_the_program_that_it_starts(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"a program")
    images.write_archive(tmp_path / "image.tar", images.PAUSE, program)
    with tarfile.open(tmp_path / "image.tar") as image, tarfile.open(fileobj=image.extractfile("layer.tar")) as layer:
        assert layer.extractfile("pause").read() == b"a program"  # type: ignore[union-attr]
        assert layer.getmember("pause").mode & 0o111
