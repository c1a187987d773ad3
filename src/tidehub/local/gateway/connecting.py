"""The gateway's and the gate's way to the platform's other parts: inside, where there is one (`tidehub.inside`)."""

from __future__ import annotations

import aiohttp
from aiohttp import web

from tidehub import inside
from tidehub.gateway.authenticator import HubAuthenticator


def connector_to(url: str) -> aiohttp.BaseConnector:
    """What a session uses that asks only the part at `url`."""
    path = inside.socket_of_url(url)
    return aiohttp.TCPConnector(limit=0) if path is None else aiohttp.UnixConnector(path, limit=0)


class InsideAuthenticator(HubAuthenticator):
    """Asks the hub inside."""

    session: aiohttp.ClientSession

    async def setup(self, app: web.Application) -> None:
        await super().setup(app)
        await self.session.close()
        self.session = aiohttp.ClientSession(connector=connector_to(self.jupyterhub_api_url))
