"""The real controller in this process, as the chart's service account at a real API server; its devices answer."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes

from cloud.cluster.entities import Workshop
from cloud.cluster.operator import Operator
from cloud.rollouts.controller import Controller
from tests.charts import Object, render
from tests.unit.cloud.rollouts.small_fleet import World

NAMESPACE = "shore"
ACCOUNTS = frozenset({"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"})
WORKSHOP = Workshop("littoral-training:0.1.0", "littoral-training", "http://littoral-api:8080")


def apply_accounts(client: kubernetes.client.ApiClient) -> None:
    """The chart's service accounts and what they may do, in the chart's namespace."""
    kubernetes.client.CoreV1Api(client).create_namespace({"metadata": {"name": NAMESPACE}})
    for made in render("littoral", {}):
        if made["kind"] in ACCOUNTS:
            _create(client, made)


def _create(client: kubernetes.client.ApiClient, made: Object) -> None:
    rbac, core = kubernetes.client.RbacAuthorizationV1Api(client), kubernetes.client.CoreV1Api(client)
    creates: dict[str, Callable[..., Any]] = {
        "ServiceAccount": lambda: core.create_namespaced_service_account(NAMESPACE, made),
        "Role": lambda: rbac.create_namespaced_role(NAMESPACE, made),
        "RoleBinding": lambda: rbac.create_namespaced_role_binding(NAMESPACE, made),
        "ClusterRole": lambda: rbac.create_cluster_role(made),
        "ClusterRoleBinding": lambda: rbac.create_cluster_role_binding(made),
    }
    creates[made["kind"]]()


def kubeconfig_of(client: kubernetes.client.ApiClient, admin: Path, account: str, path: Path) -> Path:
    """A kubeconfig with which one is the service account."""
    asked = {"spec": {"audiences": [], "expirationSeconds": 3600}}
    core = kubernetes.client.CoreV1Api(client)
    token = core.create_namespaced_service_account_token(account, NAMESPACE, asked).status.token
    content = json.loads(admin.read_text())
    content["users"] = [{"name": content["users"][0]["name"], "user": {"token": token}}]
    path.write_text(json.dumps(content))
    return path


class Live:
    """A cloud whose controller follows the cluster, until it is stopped; its devices answer whenever one looks."""

    def __init__(self, folder: Path) -> None:
        self.world = World(f"sqlite:///{folder / 'littoral.db'}", devices=3)
        self._stops: dict[str, Callable[[], None]] = {}

    def start(self, name: str = "one") -> None:
        """A further controller."""
        ready = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._run(name, ready)), name=f"controller {name}")
        thread.start()
        ready.wait()

    async def _run(self, name: str, ready: threading.Event) -> None:
        controller = Controller(self.world.new_process(), name)
        operator = Operator(self.world.new_process(), self.world.fleet, WORKSHOP, NAMESPACE)
        controller.listeners.append(operator.lead)
        loop, stop, thread = asyncio.get_running_loop(), asyncio.Event(), threading.current_thread()

        def end() -> None:
            loop.call_soon_threadsafe(stop.set)
            thread.join()

        self._stops[name] = end
        ready.set()
        tasks = [asyncio.create_task(controller.run()), asyncio.create_task(operator.run())]
        await stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    def stop(self, name: str = "one") -> None:
        """End it in order; another may lead at once."""
        self._stops.pop(name)()

    def close(self) -> None:
        """End all."""
        for name in list(self._stops):
            self.stop(name)
        self.world.database.close()

    def until(self, holds: Callable[[], bool]) -> None:
        """Let the devices answer until it holds; the test's own time limit is the only one."""
        while not holds():
            self.devices_answer()
            time.sleep(0.1)

    def devices_answer(self) -> None:
        """Once, in the controller's time, which is the present."""
        self.world.now_ms = int(time.time() * 1000)
        self.world.devices_turn()

    def states(self) -> list[tuple[int, str]]:
        """Versions and states of all rollouts, the oldest first."""
        return [(one.rollout.version, one.rollout.state.value) for one in reversed(self.world.rollouts.list())]
