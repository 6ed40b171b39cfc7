"""A Kubernetes of our own for tests: a control plane alone, or a cluster whose nodes run real pods."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simulators.kubernetes.cluster import Cluster, ClusterFailed, cluster
from simulators.kubernetes.plane import Address, ControlPlane
from simulators.kubernetes.programs import NoKubernetes
from simulators.ports import free_port

__all__ = ["Cluster", "ClusterFailed", "NoKubernetes", "cluster", "control_plane"]


@contextmanager
def control_plane(folder: Path) -> Iterator[Path]:
    """A running API with its controllers and scheduler on loopback, without nodes; needs no privileges.

    Gives the path of a kubeconfig with all rights. Controllers make ReplicaSets, Jobs' pods and service accounts; the
    scheduler binds pods to Node objects, but nothing runs them. Its files are in `folder`. Raises NoKubernetes.
    """
    plane = ControlPlane(folder, Address("127.0.0.1", free_port()))
    try:
        plane.start()
        yield plane.kubeconfig
    finally:
        plane.stop()
