"""Who may do what at the API server: each service account of the chart what it needs, and nothing of a long table."""

from __future__ import annotations

from pathlib import Path

import kubernetes
import pytest

from tests.charts import containers, pods, render
from tests.cluster.api.live_kit import NAMESPACE

pytestmark = pytest.mark.timeout(300)

CONTROLLER, TRAINING = "littoral-controller", "littoral-training"
ELSEWHERE = "default"
CLUSTER = ""

# fmt: off
MAY = [
    # verbs                            group           resource                  namespace
    ("get list watch patch",           "littoral.dev", "modelrollouts",          NAMESPACE),
    ("get list watch patch",           "littoral.dev", "devicegroups",           NAMESPACE),
    ("get list watch patch",           "littoral.dev", "trainingruns",           NAMESPACE),
    ("patch",                          "littoral.dev", "modelrollouts/status",   NAMESPACE),
    ("patch",                          "littoral.dev", "devicegroups/status",    NAMESPACE),
    ("patch",                          "littoral.dev", "trainingruns/status",    NAMESPACE),
    ("get create",                     "batch",        "jobs",                   NAMESPACE),
    ("create",                         "",             "services",               NAMESPACE),
    ("list",                           "",             "pods",                   NAMESPACE),
    ("get",                            "",             "pods/log",               NAMESPACE),
    ("list watch",                     "",             "nodes",                  CLUSTER),
]
"""What the controller needs."""

MAY_NOT = [
    ("get list watch create update patch delete",  "",                          "secrets",             NAMESPACE),
    ("get list watch create update patch delete",  "",                          "configmaps",          NAMESPACE),
    ("create update patch delete",                 "",                          "pods",                NAMESPACE),
    ("create",                                     "",                          "pods/exec",           NAMESPACE),
    ("create",                                     "",                          "pods/eviction",       NAMESPACE),
    ("create update patch delete",                 "",                          "nodes",               CLUSTER),
    ("update patch delete",                        "",                          "services",            NAMESPACE),
    ("create",                                     "",                          "serviceaccounts/token", NAMESPACE),
    ("create update patch delete",                 "apps",                      "deployments",         NAMESPACE),
    ("create update patch delete",                 "apps",                      "daemonsets",          NAMESPACE),
    ("update patch delete deletecollection",       "batch",                     "jobs",                NAMESPACE),
    ("create update delete deletecollection",      "littoral.dev",              "modelrollouts",       NAMESPACE),
    ("create update delete deletecollection",      "littoral.dev",              "trainingruns",        NAMESPACE),
    ("create update patch delete bind escalate",   "rbac.authorization.k8s.io", "roles",               NAMESPACE),
    ("create update patch delete bind escalate",   "rbac.authorization.k8s.io", "clusterroles",        CLUSTER),
    ("create update patch delete",                 "apiextensions.k8s.io",      "customresourcedefinitions", CLUSTER),
    ("get list watch patch",                       "littoral.dev",              "modelrollouts",       ELSEWHERE),
    ("get create",                                 "batch",                     "jobs",                ELSEWHERE),
    ("list",                                       "",                          "pods",                ELSEWHERE),
    ("get",                                        "",                          "pods/log",            ELSEWHERE),
    ("impersonate",                                "",                          "users",               CLUSTER),
]
"""What nobody of the chart may."""
# fmt: on


def each(table: list[tuple[str, str, str, str]]) -> list[tuple[str, str, str, str]]:
    return [(verb, group, resource, namespace) for verbs, group, resource, namespace in table for verb in verbs.split()]


def may(client: kubernetes.client.ApiClient, account: str, asked: tuple[str, str, str, str]) -> bool:
    """By the API server's own word."""
    verb, group, resource, namespace = asked
    name, _, part = resource.partition("/")
    attributes = {"verb": verb, "group": group, "resource": name, "subresource": part, "namespace": namespace}
    review = {
        "spec": {
            "user": f"system:serviceaccount:{NAMESPACE}:{account}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{NAMESPACE}", "system:authenticated"],
            "resourceAttributes": attributes,
        }
    }
    answer = kubernetes.client.AuthorizationV1Api(client).create_subject_access_review(review)
    return bool(answer.status.allowed)


@pytest.fixture
def asking(client: kubernetes.client.ApiClient, controllers_kubeconfig: Path) -> kubernetes.client.ApiClient:  # noqa: ARG001 - with it the accounts are there
    return client


@pytest.mark.parametrize("asked", each(MAY), ids=" ".join)
def test_the_controller_may_do_what_it_needs(
    asking: kubernetes.client.ApiClient, asked: tuple[str, str, str, str]
) -> None:
    assert may(asking, CONTROLLER, asked)


@pytest.mark.parametrize("asked", each(MAY_NOT), ids=" ".join)
def test_the_controller_may_not_do_what_it_does_not_need(
    asking: kubernetes.client.ApiClient, asked: tuple[str, str, str, str]
) -> None:
    assert not may(asking, CONTROLLER, asked)


@pytest.mark.parametrize("account", [TRAINING, "default"])
def test_no_other_account_may_do_anything(asking: kubernetes.client.ApiClient, account: str) -> None:
    assert [asked for asked in each(MAY + MAY_NOT) if may(asking, account, asked)] == []


def test_only_the_controllers_pod_has_a_token() -> None:
    mounted = {
        name
        for chart in ("littoral", "littoral-edge")
        for name, pod in pods(render(chart, {}))
        if containers(pod) and pod["spec"].get("automountServiceAccountToken") is not False
    }
    assert mounted == {"Deployment/littoral-controller"}
