"""dask-gateway's backend for Kubernetes with the totals of a user, which upstream does not count.

Upstream (dask-gateway-server 2022.6.1 to 2026.3.0, backends/kubernetes/backend.py) keeps every DaskCluster object in
its informer and writes the number of wanted workers into it at each heartbeat; its controller makes the pods. So a
cluster is refused here before its object is made, and workers by the number that is written. One process decides:
with more than one replica of the server two of them could each grant the rest of a total.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from aiohttp import web
from dask_gateway_server.backends.base import PublicException
from dask_gateway_server.backends.kubernetes.backend import KubeBackend, KubeClusterConfig
from dask_gateway_server.routes import api_handler
from kubernetes_asyncio.client import NetworkingV1Api
from kubernetes_asyncio.client.rest import ApiException
from traitlets import Any as AnyTrait
from traitlets import Float, List, Unicode

from tidehub.gateway import reaper, totals
from tidehub.gateway.dashboards import telling
from tidehub.gateway.dashboards.protocol import STATUS_ROUTE, key_of_service
from tidehub.kubernetes.api_pod import leftovers
from tidehub.kubernetes.api_pod.separation import cluster_policy
from tidehub.login.entitled import Entitled, entitled

CLUSTER_ROUTE = "/api/v1/clusters/{cluster_name}"
ACTIVE = ("Pending", "Running")
UNSEEN = 60.0
"""Seconds for which a cluster is counted that was made and that the informer does not show."""
SHOWN = 10.0
"""Seconds that a request waits for the informer to show a cluster that was made."""
WORKERS = "app.kubernetes.io/component=dask-worker,gateway.dask.org/cluster={name}"


class SiteClusterConfig(KubeClusterConfig):  # type: ignore[misc]
    """Upstream's cluster configuration, and what its owner's limits follow from after a restart."""

    groups = List(Unicode(), help="Memberships of the owner when the cluster was asked for.", config=True)


class Held:
    """A cluster as the totals count it: the workers that it may have, whether they run yet or not."""

    def __init__(self, name: str, username: str, config: dict[str, Any], workers: int, made: str) -> None:
        self.name, self.username, self.config = name, username, config
        self.workers, self.made = workers, made

    def active_workers(self) -> range:
        """One of anything for each worker."""
        return range(self.workers)


class SiteBackend(KubeBackend):  # type: ignore[misc]
    """Upstream's backend within the site's totals for each user."""

    site = AnyTrait(help="The site, as records.", config=True)
    namespace = Unicode(help="The platform's namespace, where its network policies are.", config=True)
    hub_api_url = Unicode(help="Where the hub says who has a server.", config=True)
    reaper_token = Unicode(help="The token to ask with; empty: no cluster is reaped.", config=True)
    dashboard_address = Unicode(
        "http://dask-{cluster}.{namespace}:8787",
        help="Where a cluster's dashboard is inside: the service that upstream's controller makes.",
        config=True,
    )
    reap_period = Float(60.0, help="Seconds between two looks for clusters without a server.", config=True)

    async def setup(self, app: web.Application) -> None:
        self.memberships: dict[str, tuple[str, ...]] = {}
        self.granted: dict[str, int] = {}
        self.unseen: dict[str, tuple[float, Held]] = {}
        self.ending: set[str] = set()
        self.deciding: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        app.middlewares.append(_limits_in_words(self))
        app.add_routes([web.get(STATUS_ROUTE, api_handler(_list_clusters, user_authenticated=True))])
        if token := os.environ.get("JUPYTERHUB_API_TOKEN", ""):
            # The gate is the hub's service of this name, and has its token.
            telling.install(app, key_of_service(token), self.told)
        await super().setup(app)
        # What the reaper knows a backend by.
        self.db, self.settings = self, self
        self.reaping = [
            asyncio.ensure_future(leftovers.end_forever(self, min(self.reap_period, leftovers.EVERY)))
        ]
        if self.reaper_token:
            self.reaping.append(asyncio.ensure_future(reaper.reap_forever(self)))

    @property
    def hub_session(self) -> Any:
        """What the reaper asks the hub with."""
        return self.session

    async def cleanup(self) -> None:
        for task in getattr(self, "reaping", []):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await super().cleanup()

    # --- what is known of a user --------------------------------------------------------------------

    def entitled(self, username: str) -> Entitled:
        """What a user has, by the memberships last heard of: from the hub, or when their clusters were asked for."""
        groups = self.memberships.get(username)
        if groups is None:
            clusters = sorted(self.clusters_of(username), key=lambda cluster: cluster.made)
            groups = tuple(clusters[-1].config.get("groups", ())) if clusters else ()
        return entitled(self.site, username, groups)

    def limits_of(self, username: str) -> Any:
        """A user's limits; everybody's for clusters that are about to be ended."""
        return self.entitled(username).dask or self.site.dask

    def told(self, name: str) -> Any:
        """What the gate is told of a cluster, by its full name `NAMESPACE.CLUSTER`."""
        obj = self.informer.cache.get(name)
        if obj is None:
            return None
        active = obj.get("spec", {}).get("active", True) and name not in self.ending
        phase = obj.get("status", {}).get("phase", "Pending") if active else "Stopped"
        return telling.Told(obj["spec"].get("username", ""), str(phase).upper(), self._dashboard(name))

    def dashboard_to_ask(self, cluster: Held) -> tuple[str, dict[str, str]]:
        """Where a cluster says whether it is used."""
        return self._dashboard(cluster.name), {}

    def _dashboard(self, name: str) -> str:
        namespace, cluster = name.split(".")
        return str(self.dashboard_address).format(namespace=namespace, cluster=cluster)

    def clusters_of(self, username: str) -> list[Held]:
        """The clusters of a user that run, start or were asked for a moment ago."""
        return [cluster for cluster in self.active_clusters() if cluster.username == username]

    def active_clusters(self) -> Iterator[Held]:
        """Everybody's, from the informer and from what it has not shown yet."""
        now, seen = asyncio.get_running_loop().time(), self.informer.cache
        self.ending &= set(seen)
        self.granted = {name: count for name, count in self.granted.items() if name in seen}
        self.unseen = {
            name: (until, held)
            for name, (until, held) in self.unseen.items()
            if name not in seen and now < until
        }
        for name, obj in list(seen.items()):
            spec, phase = obj.get("spec", {}), obj.get("status", {}).get("phase", "Pending")
            if phase in ACTIVE and spec.get("active", True) and name not in self.ending:
                workers = max(int(spec.get("replicas") or 0), self.granted.get(name, 0))
                made = obj["metadata"].get("creationTimestamp", "")
                yield Held(name, spec.get("username", ""), spec.get("config") or {}, workers, made)
        yield from (held for _, held in self.unseen.values())

    # --- what users ask ------------------------------------------------------------------------------

    async def start_cluster(self, user: Any, cluster_options: Any) -> str:
        # One after the other: two requests at once must not both take the last cluster.
        async with self.deciding[user.name]:
            self.memberships[user.name] = tuple(user.groups)
            await leftovers.end_of_user(self, user.name)
            config = (await self.process_cluster_options(user, cluster_options))[1].to_dict()
            refused = totals.refused_cluster(self.limits_of(user.name), self.clusters_of(user.name), config)
            if refused:
                raise PublicException(refused)
            name: str = await super().start_cluster(user, cluster_options)
            until = asyncio.get_running_loop().time() + UNSEEN
            self.unseen[name] = (until, Held(name, user.name, config, 0, ""))
            await self._separate(name)
            return name

    async def _separate(self, cluster_name: str) -> None:
        """Opens a new cluster's pods to each other; ends it where that is not possible."""
        namespace, name = cluster_name.split(".")
        if namespace != self.namespace:
            return
        try:
            made = await self.custom_client.get_namespaced_custom_object(
                "gateway.dask.org", self.crd_version, namespace, "daskclusters", name
            )
            policy: Any = cluster_policy(made)
            await NetworkingV1Api(api_client=self.api_client).create_namespaced_network_policy(
                namespace, policy
            )
        except ApiException as error:
            self.log.error("No network policy for %s: %s", cluster_name, error.reason)
            await self.stop_cluster(cluster_name, failed=True)
            raise PublicException(
                f"The cluster could not be closed off from other users': {error.reason}. "
                "Tell the operators of this site."
            ) from error

    async def stop_cluster(self, cluster_name: str, failed: bool = False) -> None:
        await super().stop_cluster(cluster_name, failed=failed)
        self.unseen.pop(cluster_name, None)
        if cluster_name in self.informer.cache:
            self.ending.add(cluster_name)

    async def get_cluster(self, cluster_name: str, wait: bool = False) -> Any:
        # Upstream knows a cluster once its informer shows it. Until then it answers a stop with 204 and stops nothing.
        until = asyncio.get_running_loop().time() + SHOWN
        while cluster_name in self.unseen and cluster_name not in self.clusters:
            if asyncio.get_running_loop().time() > until:
                raise web.HTTPServiceUnavailable(
                    reason="This cluster was just made. Try again in a few seconds."
                )
            await asyncio.sleep(0.02)
        model = await super().get_cluster(cluster_name, wait=wait)
        if model is None:
            return None
        clusters = self.clusters_of(model.username)
        held = next((cluster for cluster in clusters if cluster.name == cluster_name), None)
        if held is None:
            return model
        # What upstream's scale and adapt clamp to: the user's totals count too. Its own record stays as it is.
        most = totals.most_workers(self.limits_of(model.username), clusters, held)
        model = copy.copy(model)
        model.config = {**model.config, "cluster_max_workers": most.workers}
        return model

    async def on_cluster_heartbeat(self, cluster_name: str, msg: dict[str, Any]) -> None:
        clusters = list(self.active_clusters())
        held = next((cluster for cluster in clusters if cluster.name == cluster_name), None)
        if held is None:
            await super().on_cluster_heartbeat(cluster_name, msg)
            return
        theirs = [cluster for cluster in clusters if cluster.username == held.username]
        most = totals.most_workers(self.limits_of(held.username), theirs, held).workers
        # What was granted once is not taken away by another cluster; the scheduler asks again at its next heartbeat.
        count = min(msg["count"], max(most, held.workers))
        self.granted[cluster_name] = max(count, held.workers)
        await super().on_cluster_heartbeat(cluster_name, {**msg, "count": count})
        if count < held.workers:
            self.granted[cluster_name] = max(count, min(held.workers, await self.worker_pods(held)))

    async def worker_pods(self, held: Held) -> int:
        """How many pods of workers there are; what was granted where that cannot be known.

        Upstream's controller never ends running workers, it leaves that to the scheduler, which is the user's. So
        what a cluster gives back counts when its pods are gone.
        """
        namespace, name = held.name.split(".")
        try:
            pods = await self.core_client.list_namespaced_pod(
                namespace, label_selector=WORKERS.format(name=name)
            )
        except ApiException as error:
            self.log.warning("The workers of %s cannot be counted: %s", held.name, error.reason)
            return held.workers
        return sum(pod.status.phase not in ("Succeeded", "Failed") for pod in pods.items)


async def _list_clusters(request: web.Request) -> web.Response:
    """The user's own active clusters, as the gate's page shows them."""
    backend: SiteBackend = request.app["backend"]
    found = []
    for cluster in backend.clusters_of(request["user"].name):
        told = backend.told(cluster.name)
        shown = {"wanted": cluster.workers, "running": await backend.worker_pods(cluster), "waiting": []}
        found.append(
            {
                "name": cluster.name,
                "status": told.status.lower() if told is not None else "pending",
                "profile": str(cluster.config.get("image", "")),
                "reason": "",
                "workers": shown,
            }
        )
    return web.json_response({"clusters": found})


def _limits_in_words(backend: SiteBackend) -> Any:
    """Names the limit in upstream's warning that fewer workers are started than were asked for."""

    @web.middleware
    async def words(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        response = await handler(request)
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else ""
        asked = request.method == "POST" and route in (f"{CLUSTER_ROUTE}/scale", f"{CLUSTER_ROUTE}/adapt")
        if not asked or response.status != 200 or not isinstance(response, web.Response):
            return response
        said = json.loads(response.text or "{}")
        cluster_name = request.match_info["cluster_name"]
        clusters = list(backend.active_clusters())
        held = next((cluster for cluster in clusters if cluster.name == cluster_name), None)
        if held is None or not said.get("msg"):
            return response
        dask = backend.limits_of(held.username)
        theirs = [cluster for cluster in clusters if cluster.username == held.username]
        row = totals.most_workers(dask, theirs, held)
        return web.json_response({**said, "msg": f"{said['msg']} {totals.limit_words(dask, row)}"})

    return words
