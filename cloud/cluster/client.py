"""The cluster's API server, by the official client: what our objects need of it, in its own words (manifests)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kubernetes import config
from kubernetes.client import (
    ApiClient,
    ApiException,
    BatchV1Api,
    Configuration,
    CoreV1Api,
    CustomObjectsApi,
)

from cloud.cluster.entities import GROUP, GROUPS, ROLLOUTS, RUNS, VERSION, NoSuchGroup
from cloud.cluster.jobs import JOB_NAME

NOT_FOUND = 404
CONFLICT = 409
TIMEOUT_S = 10
PAGE = 500
TAIL_LINES = 20
OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Cluster:
    """One API server, as whom this process is there: by its pod's service account, else by its kubeconfig."""

    def __init__(self) -> None:
        # Any: how much of the client has types differs from version to version.
        self._api: Any = ApiClient(_configuration())
        self._core: Any = CoreV1Api(self._api)
        self._batch: Any = BatchV1Api(self._api)
        self._custom: Any = CustomObjectsApi(self._api)

    def close(self) -> None:
        """Close its connections."""
        self._api.close()

    def missing_kinds(self) -> Sequence[str]:
        """Those of our kinds that the API server does not serve (yet)."""
        found = _found(self._custom.get_api_resources, GROUP, VERSION)
        served = {one.name for one in found.resources} if found else set()
        return [kind for kind in (ROLLOUTS, GROUPS, RUNS) if kind not in served]

    def nodes(self) -> Sequence[Mapping[str, Any]]:
        """All nodes."""
        found: list[Mapping[str, Any]] = []
        page = ""
        while True:
            answer = self._core.list_node(limit=PAGE, _continue=page, _request_timeout=TIMEOUT_S)
            found += [self._plain(node) for node in answer.items]
            if not (page := answer.metadata._continue or ""):  # noqa: SLF001 - the client's name for it
                return found

    def group_labels(self, namespace: str, name: str) -> Mapping[str, str]:
        """What a DeviceGroup selects by. Raises NoSuchGroup."""
        found = _found(self._custom.get_namespaced_custom_object, GROUP, VERSION, namespace, GROUPS, name)
        if found is None:
            raise NoSuchGroup(f"there is no DeviceGroup {name!r} in namespace {namespace!r}")
        labels: Mapping[str, str] = found["spec"]["selector"]["matchLabels"]
        return labels

    def job(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """A Job; None: there is none of this name."""
        found = _found(self._batch.read_namespaced_job, name, namespace)
        return None if found is None else self._plain(found)

    def create_job(self, manifest: Mapping[str, Any]) -> None:
        """Make a Job, unless there is one of its name."""
        _made(self._batch.create_namespaced_job, manifest)

    def create_service(self, manifest: Mapping[str, Any]) -> None:
        """Make a Service, unless there is one of its name."""
        _made(self._core.create_namespaced_service, manifest)

    def workers(self, namespace: str, job: str) -> Sequence[Mapping[str, Any]]:
        """A Job's pods, those that ended included."""
        found = self._core.list_namespaced_pod(
            namespace, label_selector=f"{JOB_NAME}={job}", _request_timeout=TIMEOUT_S
        )
        return [self._plain(pod) for pod in found.items]

    def log_tail(self, namespace: str, pod: str) -> str:
        """The last lines that a pod logged; empty: none yet."""
        try:
            return str(
                self._core.read_namespaced_pod_log(pod, namespace, tail_lines=TAIL_LINES, _request_timeout=TIMEOUT_S)
            )
        except ApiException:  # it has not started, or its node does not answer: its log says nothing now
            return ""

    def _plain(self, found: object) -> Mapping[str, Any]:
        plain: Mapping[str, Any] = self._api.sanitize_for_serialization(found)
        return plain


def own_namespace() -> str:
    """Where this process is at home: its pod's namespace, else its kubeconfig's."""
    if OWN_NAMESPACE.exists():
        return OWN_NAMESPACE.read_text().strip()
    _, active = config.list_kube_config_contexts(os.environ.get("KUBECONFIG"))
    return str(active["context"].get("namespace") or "default")


def _configuration() -> Configuration:
    made = Configuration()
    try:
        config.load_incluster_config(client_configuration=made)
    except config.ConfigException:
        config.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=made)
    return made


def _found(read: Any, *arguments: str) -> Any:  # noqa: ANN401 - the client has no types
    """What the API server has there; None: nothing."""
    try:
        return read(*arguments, _request_timeout=TIMEOUT_S)
    except ApiException as error:
        if error.status != NOT_FOUND:
            raise
        return None


def _made(create: Any, manifest: Mapping[str, Any]) -> None:  # noqa: ANN401 - the client has no types
    try:
        create(manifest["metadata"]["namespace"], dict(manifest), _request_timeout=TIMEOUT_S)
    except ApiException as error:
        if error.status != CONFLICT:
            raise
