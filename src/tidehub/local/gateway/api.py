"""What the gateway's HTTP interface says beyond upstream's: reasons."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web
from dask_gateway_server.backends.db_base import Cluster, JobStatus
from dask_gateway_server.routes import api_handler

from tidehub.gateway import totals
from tidehub.local.gateway.config import STATUS_ROUTE

if TYPE_CHECKING:
    from tidehub.local.gateway.backend import TidehubBackend

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CLUSTER_ROUTE = "/api/v1/clusters/{cluster_name}"


def install(app: web.Application, backend: TidehubBackend) -> None:
    """Add the routes and the words; before the application starts."""

    @web.middleware
    async def reasons(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else ""
        if (
            response.status != 200
            or not isinstance(response, web.Response)
            or not route.startswith(CLUSTER_ROUTE)
        ):
            return response
        cluster = backend.db.get_cluster(request.match_info["cluster_name"])
        if cluster is None:
            return response
        if route == CLUSTER_ROUTE and request.method == "GET" and "wait" in request.query:
            return _failure(backend, cluster) or response
        if request.method == "POST" and route.endswith(("/scale", "/adapt")):
            return _scaled(backend, cluster, response)
        return response

    app.middlewares.append(reasons)
    app.add_routes([web.get(STATUS_ROUTE, api_handler(_list_clusters, user_authenticated=True))])


def _failure(backend: TidehubBackend, cluster: Cluster) -> web.Response | None:
    """For a client that waits for a cluster which failed: 409, because only errors' texts reach the person."""
    if cluster.target != JobStatus.FAILED:
        return None
    why = backend.why(cluster)
    return web.json_response({"error": f"Cluster {cluster.name} failed: {why}"}, status=409) if why else None


def _scaled(backend: TidehubBackend, cluster: Cluster, response: web.Response) -> web.Response:
    """Names the limit in upstream's warning that fewer workers are started than were asked for."""
    said = json.loads(response.text or "{}")
    if not said.get("msg"):
        return response
    dask = backend.limits_of(cluster.username)
    row = totals.most_workers(dask, backend.clusters_of(cluster.username), cluster)
    return web.json_response({**said, "msg": f"{said['msg']} {totals.limit_words(dask, row)}"})


async def _list_clusters(request: web.Request) -> web.Response:
    """The person's own clusters: status, and for what waits its place and reason."""
    backend: TidehubBackend = request.app["backend"]
    name = request["user"].name
    clusters = [c for c in backend.db.name_to_cluster.values() if c.username == name]
    clusters.sort(key=lambda c: c.start_time, reverse=True)
    # Those that ended a while ago are upstream's history, not news.
    recent = [c for c in clusters if c.is_active() or c.stop_time is None] + [
        c for c in clusters if c.stop_time is not None and not c.is_active()
    ][:10]
    return web.json_response({"clusters": [describe(backend, cluster) for cluster in recent]})


def describe(backend: TidehubBackend, cluster: Cluster) -> dict[str, Any]:
    """One cluster as the status page and `tidehub status` show it."""
    workers = [w for w in cluster.workers.values() if w.is_active()]
    waiting = []
    for worker in workers:
        entry = backend.admission.waiting(backend.claim(worker).id)
        if entry is not None:
            waiting.append({"place": entry.place, "ahead": entry.ahead, "reason": entry.reason})
    own = backend.admission.waiting(backend.claim(cluster).id)
    return {
        "name": cluster.name,
        "owner": cluster.username,
        "status": cluster.model_status.name.lower(),
        "profile": backend.profile(cluster),
        "reason": backend.why(cluster),
        "place": own.place if own else None,
        "ahead": own.ahead if own else None,
        "workers": {
            "wanted": cluster.count,
            "running": sum(w.status == JobStatus.RUNNING for w in workers),
            "waiting": waiting,
        },
    }
