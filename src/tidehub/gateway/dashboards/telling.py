"""What the gateway tells the gate before the dashboards: whose a cluster is, how it is, and where its dashboard is.

The gate goes to the dashboard by itself, past the gateway's proxy. Needs aiohttp alone: it travels into images.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import asdict, dataclass

from aiohttp import web

from tidehub.gateway.dashboards.protocol import GATE_ROUTE, GATE_SCHEME, gate_token


@dataclass(frozen=True)
class Told:
    """One cluster: its owner, its status in upstream's words (`RUNNING`), and its dashboard's origin, or ""."""

    owner: str
    status: str
    dashboard: str


LookUp = Callable[[str], Told | None]


def install(app: web.Application, key_secret: str, look_up: LookUp) -> None:
    """Add the route; before the application starts. `look_up` knows a cluster by its name."""
    expected = f"{GATE_SCHEME} {gate_token(key_secret)}".encode()

    async def tell(request: web.Request) -> web.Response:
        said = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if not hmac.compare_digest(said, expected):
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": GATE_SCHEME})
        told = look_up(request.match_info["cluster_name"])
        if told is None:
            # In JSON: a proxy on the way answers 404 by itself while this server restarts.
            return web.json_response({"error": "There is no such cluster"}, status=404)
        return web.json_response(asdict(told))

    app.add_routes([web.get(GATE_ROUTE, tell)])
