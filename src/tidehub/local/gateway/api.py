"""What the gateway's HTTP interface says beyond upstream's: reasons."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from dask_gateway_server.backends.db_base import Cluster, JobStatus
from dask_gateway_server.routes import api_handler

from tidehub.gateway import totals
from tidehub.gateway.dashboards.protocol import STATUS_ROUTE
from tidehub.local.gateway.backend import ClusterBackend
from tidehub.local.json_input import read_json

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CLUSTER_ROUTE = "/api/v1/clusters/{cluster_name}"
LARGEST_BODY = 64 * 2**10
"""Bytes of a request of a user."""
HEARTBEAT_BODY = 2**20
"""Bytes of a scheduler's heartbeat, which names its workers. aiohttp reads no more by itself."""
MOST_WORKERS = 2**31
LONGEST_ADDRESS = 255
"""Characters, as the gateway's columns say; sqlite would hold any number of them."""


def install(app: web.Application, backend: ClusterBackend) -> None:
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

    app.middlewares.append(readable)
    app.middlewares.append(reasons)
    app.add_routes([web.get(STATUS_ROUTE, api_handler(_list_clusters, user_authenticated=True))])


@web.middleware
async def readable(request: web.Request, handler: Handler) -> web.StreamResponse:
    """400 and words for a body that is not a JSON object of sensible size: upstream's routes answer 500.

    The values of what a user chooses are judged by the site's options (`tidehub.gateway.choices`); here is only
    what upstream's own handlers take for granted (dask-gateway-server 2026.3.0, routes.py).
    """
    if request.method not in ("POST", "PUT", "PATCH") or not request.path.startswith("/api/"):
        return await handler(request)
    fault = body_fault(await request.read(), request.path)
    return web.json_response({"error": fault}, status=400) if fault else await handler(request)


def body_fault(body: bytes, path: str) -> str | None:
    """What keeps upstream from reading this body, in words; None for a good one (pure)."""
    limit = HEARTBEAT_BODY if path.endswith("/heartbeat") else LARGEST_BODY
    if len(body) > limit:
        return f"The body has {len(body)} bytes; at most {limit} are accepted"
    try:
        value = read_json(body)
    except ValueError as error:
        return f"The body {error}"
    if not isinstance(value, dict):
        return "The body must be a JSON object"
    return _heartbeat_fault(value) if path.endswith("/heartbeat") else _request_fault(value)


def _request_fault(value: dict[str, Any]) -> str | None:
    if not isinstance(value.get("cluster_options") or {}, dict):
        return "cluster_options must be a JSON object"
    for name in ("count", "minimum", "maximum"):
        if value.get(name) is not None and not _is_count(value[name]):
            return f"{name} must be a whole number between 0 and {MOST_WORKERS - 1}"
    return None if isinstance(value.get("active", True), bool) else "active must be true or false"


def _heartbeat_fault(value: dict[str, Any]) -> str | None:
    """A scheduler is a program of its user, and the gateway stores these."""
    for name in ("api_address", "scheduler_address", "dashboard_address"):
        address = value.get(name)
        if not isinstance(address, str) or len(address) > LONGEST_ADDRESS:
            return f"{name} must be text of at most {LONGEST_ADDRESS} characters"
    for name in ("active_workers", "closing_workers", "closed_workers"):
        names = value.get(name)
        if not isinstance(names, list) or not all(isinstance(worker, str | int) for worker in names):
            return f"{name} must be a list of names"
    return None if _is_count(value.get("count")) else f"count must be between 0 and {MOST_WORKERS - 1}"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST_WORKERS


def _failure(backend: ClusterBackend, cluster: Cluster) -> web.Response | None:
    """For a client that waits for a cluster which failed: 409, because only errors' texts reach the user."""
    if cluster.target != JobStatus.FAILED:
        return None
    why = backend.why(cluster)
    return web.json_response({"error": f"Cluster {cluster.name} failed: {why}"}, status=409) if why else None


def _scaled(backend: ClusterBackend, cluster: Cluster, response: web.Response) -> web.Response:
    """Names the limit in upstream's warning that fewer workers are started than were asked for."""
    said = json.loads(response.text or "{}")
    if not said.get("msg"):
        return response
    dask = backend.limits_of(cluster.username)
    row = totals.most_workers(dask, backend.clusters_of(cluster.username), cluster)
    return web.json_response({**said, "msg": f"{said['msg']} {totals.limit_words(dask, row)}"})


async def _list_clusters(request: web.Request) -> web.Response:
    """The user's own clusters: status, and for what waits its place and reason."""
    backend: ClusterBackend = request.app["backend"]
    name = request["user"].name
    clusters = [c for c in backend.db.name_to_cluster.values() if c.username == name]
    clusters.sort(key=lambda c: c.start_time, reverse=True)
    # Those that ended a while ago are upstream's history, not news.
    recent = [c for c in clusters if c.is_active() or c.stop_time is None] + [
        c for c in clusters if c.stop_time is not None and not c.is_active()
    ][:10]
    return web.json_response({"clusters": [describe(backend, cluster) for cluster in recent]})


def describe(backend: ClusterBackend, cluster: Cluster) -> dict[str, Any]:
    """One cluster as the status page and `tidehub status` show it."""
    workers = [w for w in cluster.workers.values() if w.is_active()]
    waiting = []
    for worker in workers:
        entry = backend.admission.waiting(backend.reservation(worker).id)
        if entry is not None:
            waiting.append({"place": entry.place, "ahead": entry.ahead, "reason": entry.reason})
    own = backend.admission.waiting(backend.reservation(cluster).id)
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
