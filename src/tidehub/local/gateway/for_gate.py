"""What the gateway tells the gate before the dashboards: whose a cluster is, how it is, and where its dashboard is.

The gate goes to the dashboard by itself, past the gateway's proxy, which opens its own port: while it is down, any
program of the machine could take that port.
"""

from __future__ import annotations

import hmac
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web

from tidehub.local.gateway.backend import ClusterBackend
from tidehub.local.gateway.config import GATE_ROUTE, GATE_SCHEME, gate_token


def install(app: web.Application, backend: ClusterBackend) -> None:
    """Add the route; before the application starts."""
    expected = f"{GATE_SCHEME} {gate_token(backend.key_secret)}".encode()

    async def tell(request: web.Request) -> web.Response:
        said = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if not hmac.compare_digest(said, expected):
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": GATE_SCHEME})
        cluster = backend.db.get_cluster(request.match_info["cluster_name"])
        if cluster is None:
            raise web.HTTPNotFound(reason="There is no such cluster")
        return web.json_response(
            {
                "owner": cluster.username,
                "status": cluster.model_status.name,
                "dashboard": dashboard_of(cluster.dashboard_address),
            }
        )

    app.add_routes([web.get(GATE_ROUTE, tell)])


def dashboard_of(said: str) -> str:
    """The origin of a dashboard, `http://127.0.0.1:PORT`, or nothing (pure).

    The scheduler says it, so its owner chose it: what is not on this machine is not followed.
    """
    try:
        parts = urlsplit(said)
        ours = parts.scheme == "http" and ip_address(parts.hostname or "").is_loopback and parts.port
    except ValueError:
        return ""
    return f"http://{parts.netloc.rpartition('@')[2]}" if ours else ""
