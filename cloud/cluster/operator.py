"""The cluster's part of the controller: watches its objects for as long as this process leads, and only then.

kopf runs in a thread with a loop of its own: it would take the process's signals, and its pauses are not ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from typing import Any

import kopf
import structlog

from cloud.cluster import nodes
from cloud.cluster.client import Cluster, own_namespace
from cloud.cluster.entities import Workshop
from cloud.cluster.handlers import Handlers
from cloud.cluster.service import DeviceGroups, ModelRollouts
from cloud.cluster.training import TrainingRuns
from cloud.fleet.service import Fleet
from cloud.rollouts.entities import Lease
from cloud.rollouts.service import Rollouts

AGAIN_S = 2.0
NODES_S = 60.0
"""All nodes are read so often: of one that went while nobody watched there is no event."""

log = structlog.get_logger()

# That signals are not kopf's is what we want: nobody needs to be warned of it.
logging.getLogger("kopf._core.reactor.running").addFilter(lambda record: "OS signals" not in record.getMessage())


class Operator:
    """Follows the objects of one namespace, and the cluster's nodes. namespace: empty, the one it is at home in."""

    def __init__(self, rollouts: Rollouts, fleet: Fleet, workshop: Workshop, namespace: str = "") -> None:
        self._rollouts = rollouts
        self._fleet = fleet
        self._workshop = workshop
        self._namespace = namespace
        self._lease: Lease | None = None
        self._leads = asyncio.Event()
        self._lost = asyncio.Event()

    def lead(self, lease: Lease | None) -> None:
        """The controller's lease, as it is now; None: another leads."""
        self._lease = lease
        (self._leads.set if lease else self._leads.clear)()
        (self._lost.clear if lease else self._lost.set)()

    async def run(self) -> None:
        """Until cancelled. The rollouts go on whatever the cluster does."""
        while True:
            await self._leads.wait()
            try:
                await self._follow()
            except Exception as error:  # noqa: BLE001 - the API server may be away, or refuse us: neither is the end
                log.warning("the cluster cannot be followed; trying again", error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(AGAIN_S)

    async def _follow(self) -> None:
        cluster = await asyncio.to_thread(Cluster)
        try:
            if missing := await asyncio.to_thread(cluster.missing_kinds):
                log.warning("the cluster does not know our objects yet: apply the chart's CRDs", missing=missing)
                return
            await self._watch(cluster)
        finally:
            cluster.close()

    async def _watch(self, cluster: Cluster) -> None:
        """Until the lease is lost, or kopf has ended."""
        namespace = self._namespace or own_namespace()
        stop = threading.Event()
        watching = asyncio.create_task(asyncio.to_thread(self._operate, cluster, namespace, stop))
        beside = [asyncio.create_task(self._lost.wait()), asyncio.create_task(self._read_nodes(cluster))]
        log.info("following the cluster's objects", namespace=namespace)
        try:
            await asyncio.wait([watching, *beside], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.set()
            for task in beside:
                task.cancel()
            await asyncio.wait([watching, *beside])
            log.info("no longer following the cluster's objects", namespace=namespace)
        for task in [watching, *beside]:
            with contextlib.suppress(asyncio.CancelledError):
                task.result()

    def _operate(self, cluster: Cluster, namespace: str, stop: threading.Event) -> None:
        handlers = Handlers(
            rollouts=ModelRollouts(self._rollouts, cluster.group_labels),
            groups=DeviceGroups(self._fleet),
            runs=TrainingRuns(cluster, self._workshop),
            fleet=self._fleet,
            lease=lambda: self._lease,
        )
        # By default kopf asks for this user's name, which need not have one here.
        identity: Any = f"littoral-{os.getpid()}"
        registry = handlers.registry()
        asyncio.run(
            kopf.operator(registry=registry, namespaces=[namespace], standalone=True, identity=identity, stop_flag=stop)
        )

    async def _read_nodes(self, cluster: Cluster) -> None:
        while True:
            await asyncio.to_thread(self._take_nodes, cluster)
            await asyncio.sleep(NODES_S)

    def _take_nodes(self, cluster: Cluster) -> None:
        found = [nodes.node(manifest) for manifest in cluster.nodes()]
        self._fleet.take_nodes([node for node in found if node], int(time.time() * 1000))
