"""Our CRDs and objects of them, as a person with kubectl handles them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kubernetes
import yaml
from kubernetes.client import ApiException

from cloud.cluster.entities import GROUP, GROUPS, ROLLOUTS, RUNS, VERSION
from tests.waiting import until

CRDS = Path(__file__).parents[3] / "helm" / "littoral" / "files" / "crds"
KINDS = {ROLLOUTS: "ModelRollout", GROUPS: "DeviceGroup", RUNS: "TrainingRun"}
NAME = "one"


class Refused(Exception):
    """The API server refused an object; the message is what a person reads."""


def apply_crds(client: kubernetes.client.ApiClient) -> None:
    """Make our kinds known, and wait until they are served."""
    api = kubernetes.client.ApiextensionsV1Api(client)
    for path in sorted(CRDS.glob("*.yaml")):
        crd = yaml.safe_load(path.read_text())
        name = crd["metadata"]["name"]
        api.create_custom_resource_definition(crd)
        until(lambda name=name: _is_served(api, name))  # type: ignore[misc]


def _is_served(api: Any, name: str) -> bool:
    found = api.read_custom_resource_definition(name).status
    return any(one.type == "Established" and one.status == "True" for one in found.conditions or [])


class Objects:
    """The objects of one namespace. Refused is raised for what the API server does not take."""

    def __init__(self, client: kubernetes.client.ApiClient, namespace: str) -> None:
        self.client = client
        self.namespace = namespace
        self.custom = kubernetes.client.CustomObjectsApi(client)

    def create(self, kind: str, spec: dict[str, Any], name: str = NAME) -> dict[str, Any]:
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KINDS[kind],
            "metadata": {"name": name},
            "spec": spec,
        }
        return self._asked(self.custom.create_namespaced_custom_object, kind, body)

    def edit(self, kind: str, name: str = NAME, **changed: Any) -> dict[str, Any]:
        """Change fields of the spec; None removes one."""
        return self._asked(self.custom.patch_namespaced_custom_object, kind, name, {"spec": changed})

    def get(self, kind: str, name: str = NAME) -> dict[str, Any]:
        found: dict[str, Any] = self.custom.get_namespaced_custom_object(GROUP, VERSION, self.namespace, kind, name)
        return found

    def status(self, kind: str, name: str = NAME) -> dict[str, Any]:
        found: dict[str, Any] = self.get(kind, name).get("status", {})
        return found

    def delete(self, kind: str, name: str = NAME) -> None:
        self.custom.delete_namespaced_custom_object(GROUP, VERSION, self.namespace, kind, name)

    def left(self) -> list[str]:
        """The names of all objects of our kinds."""
        return [f"{kind}/{one['metadata']['name']}" for kind in KINDS for one in self.listed(kind)]

    def delete_all(self) -> None:
        """Let all of them go."""
        for kind in KINDS:
            for one in self.listed(kind):
                self.delete(kind, one["metadata"]["name"])

    def listed(self, kind: str) -> list[dict[str, Any]]:
        """All objects of a kind."""
        found: list[dict[str, Any]] = self.custom.list_namespaced_custom_object(GROUP, VERSION, self.namespace, kind)[
            "items"
        ]
        return found

    def exists(self, kind: str, name: str = NAME) -> bool:
        try:
            self.get(kind, name)
        except ApiException as error:
            if error.status != 404:
                raise
            return False
        return True

    def columns(self, kind: str) -> dict[str, Any]:
        """What `kubectl get` shows of the first object, by column."""
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{self.namespace}/{kind}"
        headers = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        answer = self.client.rest_client.request("GET", f"{self.client.configuration.host}{path}", headers=headers)
        table = json.loads(answer.response.data)
        names = [column["name"] for column in table["columnDefinitions"]]
        return dict(zip(names, table["rows"][0]["cells"], strict=True))

    def _asked(self, ask: Any, kind: str, *arguments: Any) -> dict[str, Any]:
        try:
            done: dict[str, Any] = ask(GROUP, VERSION, self.namespace, kind, *arguments)
        except ApiException as error:
            if error.status != 422:
                raise
            raise Refused(json.loads(error.body)["message"]) from error
        return done
