"""dask-gateway's server as a part of the platform: where it listens, for how long, and how it asks the hub."""

from __future__ import annotations

from functools import partial
from typing import Any

import aiohttp
from aiohttp import web

from tidehub.gateway.authenticator import HubAuthenticator
from tidehub.inside import connector_to
from tidehub.listening import BACKLOG, BACKLOG_INSIDE, IDLE, inherited, inside_name


def serve_as_part(patience: float = IDLE) -> None:
    """Have dask-gateway's server accept on the sockets that the supervisor gave, if there are any, and close a
    connection that is without a request, or within its headers, for `patience` seconds.

    dask-gateway-server 2026.3 (app.py, `setup`) can only listen by itself, with `web.TCPSite(runner, host, port)`, and
    leaves aiohttp's hour for headers. Call it before that server is made.
    """
    # aiohttp counts this time from the connection's beginning, whatever has come, and again after each answer.
    web.AppRunner = partial(web.AppRunner, keepalive_timeout=patience)  # type: ignore[misc, assignment]
    found = inherited("gateway")
    if found is None:
        return
    held, inside = found, inherited(inside_name("gateway"))
    address = held.getsockname()[:2]

    class InheritingSite(web.SockSite):
        def __init__(self, runner: Any, host: str, port: int, **more: Any) -> None:
            if (host, port) != address:
                raise ValueError(f"the gateway was given a socket on {address}, not on {(host, port)}")
            super().__init__(runner, held, **{"backlog": BACKLOG, **more})
            self._inside = None if inside is None else web.SockSite(runner, inside, backlog=BACKLOG_INSIDE)

        async def start(self) -> None:
            await super().start()
            if self._inside is not None:
                await self._inside.start()

    web.TCPSite = InheritingSite  # type: ignore[misc, assignment]


class InsideAuthenticator(HubAuthenticator):
    """Asks the hub inside, where there is a way (`tidehub.inside`)."""

    session: aiohttp.ClientSession

    async def setup(self, app: web.Application) -> None:
        await super().setup(app)
        await self.session.close()
        self.session = aiohttp.ClientSession(connector=connector_to(self.jupyterhub_api_url))
