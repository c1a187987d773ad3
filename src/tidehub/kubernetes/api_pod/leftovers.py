"""Pods of clusters that have ended, which upstream's controller leaves behind; they are ended here.

The controller (dask-gateway-server 2022.6 to 2026.3, `handle_cluster`) deletes the scheduler's pod by the name in the
cluster's status. A cluster that is stopped in the moment between the pod's making and the writing of that name keeps
its scheduler, which counts in nobody's totals, until the object is cleared away a day later. Workers go with their
scheduler, whose pod owns theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import Any

from kubernetes_asyncio.client.rest import ApiException

CLUSTER = "gateway.dask.org/cluster"
GRACE = 30.0
"""Seconds after which a pod without an active cluster is ended: the controller comes first, and this server's view of
the clusters may be behind."""
EVERY = 15.0
"""Seconds between two looks, so that all is gone within a minute."""
LAST = 20
"""Clusters of a user that are looked at when they start another one."""


@dataclass
class Leftovers:
    """Since when each pod has had no active cluster. Times in seconds, of any steady clock."""

    _since: dict[str, float] = field(default_factory=dict)

    def due(self, pods: Iterable[tuple[str, str]], active: Container[str], now: float) -> set[str]:
        """Which of the pods (uid and cluster each) are to be ended now."""
        alone = [uid for uid, cluster in pods if cluster not in active]
        self._since = {uid: self._since.get(uid, now) for uid in alone}
        return {uid for uid, since in self._since.items() if now - since >= GRACE}


async def end_forever(backend: Any, period: float) -> None:
    """Look again and again, until cancelled."""
    leftovers = Leftovers()
    while True:
        await asyncio.sleep(period)
        try:
            pods = await _pods(backend, CLUSTER)
            active = {cluster.name for cluster in backend.active_clusters()}
            named = [(pod.metadata.uid, _cluster(pod)) for pod in pods]
            due = leftovers.due(named, active, asyncio.get_running_loop().time())
            await _end(backend, [pod for pod in pods if pod.metadata.uid in due])
        except Exception as error:
            backend.log.warning("Exception while looking for pods of ended clusters", exc_info=error)


async def end_of_user(backend: Any, username: str) -> None:
    """End at once what the user's ended clusters have left, before another one is counted and made."""
    active = {cluster.name for cluster in backend.active_clusters()}
    ended = [
        (obj["metadata"].get("creationTimestamp", ""), obj["metadata"]["name"])
        for name, obj in backend.informer.cache.items()
        if name not in active and obj.get("spec", {}).get("username") == username
    ]
    names = [name for _, name in sorted(ended)[-LAST:]]
    if not names:
        return
    try:
        await _end(backend, await _pods(backend, f"{CLUSTER} in ({','.join(names)})"))
    except ApiException as error:
        backend.log.warning("The pods of ended clusters of %s cannot be listed: %s", username, error.reason)


async def _pods(backend: Any, selector: str) -> list[Any]:
    """Those that nobody has ended yet."""
    found = await backend.core_client.list_namespaced_pod(backend.namespace, label_selector=selector)
    return [pod for pod in found.items if pod.metadata.deletion_timestamp is None]


def _cluster(pod: Any) -> str:
    return f"{pod.metadata.namespace}.{pod.metadata.labels[CLUSTER]}"


async def _end(backend: Any, pods: Iterable[Any]) -> None:
    for pod in pods:
        name = pod.metadata.name
        try:
            await backend.core_client.delete_namespaced_pod(name, backend.namespace)
        except ApiException as error:
            if error.status != 404:
                backend.log.warning("The pod %s of an ended cluster stays: %s", name, error.reason)
        else:
            backend.log.warning("The pod %s is ended: its cluster %s has ended", name, _cluster(pod))
