"""TrainingRuns as a person sees them, by the person's own kubeconfig: made, and looked at until they end."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes import config
from kubernetes.client import ApiException, CustomObjectsApi
from urllib3.exceptions import HTTPError

from cloud.cluster.entities import ENDED, GROUP, RUNS, VERSION, Phase

TIMEOUT_S = 10
LOOK_S = 1.0
NOT_FOUND = 404
MOST_OF_NAME = 40


class NoCluster(Exception):
    """The cluster cannot be asked; the message says which, why, and what to do."""


class RunRefused(Exception):
    """The cluster does not take such a TrainingRun, or has it no more; the message says why."""


@dataclass(frozen=True, slots=True)
class Course:
    """Where a run stands. epoch of epochs, 0 of 0 while that is not known. version: what was registered."""

    phase: str = Phase.PENDING
    epoch: int = 0
    epochs: int = 0
    restarts: int = 0
    message: str = ""
    version: int | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.phase in ENDED


def course(run: Mapping[str, Any]) -> Course:
    """What an object's status says."""
    status = run.get("status") or {}
    epoch, _, epochs = str(status.get("progress") or "0/0").partition("/")
    return Course(
        status.get("phase") or Phase.PENDING,
        int(epoch),
        int(epochs),
        status.get("restarts") or 0,
        status.get("message") or "waiting for the controller",
        status.get("version"),
    )


def new_name(model: str) -> str:
    """One that no other run has, and that can be part of host names."""
    readable = re.sub("[^a-z0-9]+", "-", model)[:MOST_OF_NAME].strip("-")
    return f"{readable if readable[:1].isalpha() else f'model-{readable}'}-{secrets.token_hex(3)}"


class Runs:
    """TrainingRuns in a namespace of a cluster; both None: as kubectl would choose. Raises NoCluster."""

    def __init__(self, namespace: str | None = None, context: str | None = None) -> None:
        file = os.environ.get("KUBECONFIG")
        try:
            contexts, active = config.list_kube_config_contexts(file)
            chosen = next((one for one in contexts if one["name"] == context), None) if context else active
            if chosen is None:
                raise NoCluster(f"the kubeconfig has no context {context!r}: kubectl config get-contexts lists them")
            self.namespace = str(namespace or chosen["context"].get("namespace") or "default")
            self._api: Any = CustomObjectsApi(config.new_client_from_config(file, chosen["name"]))
        except (config.ConfigException, OSError) as error:
            raise NoCluster(f"no cluster is known here: {error}. Set KUBECONFIG, as for kubectl") from error

    def create(self, name: str, spec: Mapping[str, Any]) -> None:
        """Make one. Raises RunRefused."""
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "TrainingRun",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": dict(spec),
        }
        self._asked(self._api.create_namespaced_custom_object, body)

    def look(self, name: str) -> Course:
        """Where one stands. Raises RunRefused if it is gone."""
        return course(self._asked(self._api.get_namespaced_custom_object, name))

    def follow(self, name: str) -> Iterator[Course]:
        """Where one stands, each second, the last time at its end. A cluster that does not answer is asked again."""
        while True:
            try:
                seen = self.look(name)
            except NoCluster:
                time.sleep(LOOK_S)
                continue
            yield seen
            if seen.has_ended:
                return
            time.sleep(LOOK_S)

    def _asked(self, ask: Callable[..., Mapping[str, Any]], *arguments: object) -> Mapping[str, Any]:
        try:
            return ask(GROUP, VERSION, self.namespace, RUNS, *arguments, _request_timeout=TIMEOUT_S)
        except ApiException as error:
            if error.status is None or error.status >= 500:  # noqa: PLR2004 - HTTP's own numbers
                raise NoCluster(f"the cluster failed: {error.status} {error.reason}") from error
            raise RunRefused(_sentence(error)) from error
        except (HTTPError, OSError) as error:
            raise NoCluster(f"the cluster does not answer: {error}") from error


def _sentence(error: ApiException) -> str:
    """What the API server says is wrong; it knows no TrainingRuns where Littoral's chart is not installed."""
    try:
        status = json.loads(error.body or "{}")
    except ValueError:
        status = {}
    message = str(status.get("message") or f"{error.status} {error.reason}")
    if error.status == NOT_FOUND and not (status.get("details") or {}).get("name"):
        return f"this cluster knows no TrainingRuns: is Littoral's chart installed there? ({message.strip()})"
    return message
