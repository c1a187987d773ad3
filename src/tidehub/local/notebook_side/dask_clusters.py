"""The user's own clusters in the list of JupyterLab's Dask panel, however they were made.

dask-labextension 7 lists only what its own manager started (`DaskClusterManager.list_clusters`). Here the gateway
is asked before each answer: a cluster made in a notebook joins the list, and one that has ended leaves it. A
cluster that joined is shut down by the panel's button only, never because the notebook server ends. This file
runs in the notebook environment, or in a pod with an image's Python from 3.8 on: it imports nothing of ours.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from uuid import UUID

from dask_gateway import Gateway  # type: ignore[import-not-found, unused-ignore]
from tornado import web

PATIENCE = 5
"""Seconds that the gateway may take for its answer; the panel asks every few seconds."""

_log = logging.getLogger("tidehub.dask_clusters")


class OwnClusters:
    """Keeps the clusters of `manager`, a `DaskClusterManager`, the same as those that the gateway runs."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._joined: set[str] = set()
        self._lock = asyncio.Lock()
        self._gateway: Any = None
        self._failure = ""

    async def refresh(self) -> None:
        """Asks the gateway. Where it, or a cluster, does not answer in time, the rest of the list is right."""
        async with self._lock:
            try:
                missing = await asyncio.wait_for(self._compare(), PATIENCE)
            except Exception as error:  # whatever a gateway or a network does, the panel goes on
                if self._failure != repr(error):  # the panel asks again every few seconds
                    self._failure = repr(error)
                    _log.warning("The list of Dask clusters could not be renewed: %r", error)
                return
            self._failure = ""
            joining = (asyncio.wait_for(self._join(name), PATIENCE) for name in missing)
            for failure in await asyncio.gather(*joining, return_exceptions=True):
                if failure is not None:
                    _log.warning("A Dask cluster could not be added to the list: %r", failure)

    async def running(self) -> set[str]:
        """The names of the user's clusters that run now. Raises whatever the gateway or a network does."""
        if self._gateway is None:
            self._gateway = Gateway(asynchronous=True)
        return {report.name for report in await self._gateway.list_clusters(status="running")}

    async def _compare(self) -> set[str]:
        """Takes what has ended out of the list; returns the names of running clusters that are not in it."""
        clusters = self._manager._clusters
        before = {key: cluster.name for key, cluster in clusters.items()}
        running = await self.running()
        for key, name in before.items():
            if name not in running and key in clusters:
                await self._forget(key)
        return running - {cluster.name for cluster in clusters.values()}

    async def _join(self, name: str) -> None:
        cluster = await self._gateway.connect(name, shutdown_on_close=False)
        if "workers" not in cluster.scheduler_info:
            # Its scheduler did not answer, and the extension cannot list what tells no workers.
            await cluster.close()
            return
        # The form that the extension's addresses ask for; the same after a restart of the notebook server. On
        # Kubernetes a name is `NAMESPACE.HEX` (dask-gateway, `KubeBackend.start_cluster`).
        number = UUID(name.rpartition(".")[2])
        key = str(number)
        self._manager._clusters[key] = cluster
        self._manager._cluster_names[key] = f"GatewayCluster {number.hex[:8]}"
        self._joined.add(key)

    async def _forget(self, key: str) -> None:
        cluster = self._manager._clusters.pop(key)
        self._manager._cluster_names.pop(key, None)
        self._manager._adaptives.pop(key, None)
        self._joined.discard(key)
        await cluster.close(shutdown=False)

    async def shut_down(self, key: str) -> None:
        """Ends the cluster `key` if it joined the list: the manager's `close` would only leave it."""
        if key in self._joined:
            self._joined.discard(key)
            await self._manager._clusters[key].shutdown()


def extend(handler: Any, manager: Any) -> OwnClusters:
    """Lets `handler`, the extension's `DaskClusterHandler`, list and shut down all clusters of the user."""
    own = OwnClusters(manager)
    listed, deleted = handler.get, handler.delete

    @web.authenticated
    async def get(self: Any, cluster_id: str = "") -> None:
        if not cluster_id:
            await own.refresh()
        await listed(self, cluster_id)

    @web.authenticated
    async def delete(self: Any, cluster_id: str) -> None:
        await own.shut_down(cluster_id)
        await deleted(self, cluster_id)

    handler.get, handler.delete = get, delete
    return own
