"""The proxy in its own pod gets its routes back within seconds after it was restarted.

A proxy that comes back knows no routes, and answers 404 to everybody. JupyterHub (5.5, app.py, `update_last_activity`)
looks whether any are missing only when it collects activity: every 60 seconds by the chart's configuration. Asking the
proxy more often costs one small request; collecting activity more often would write to the database each time.

Runs in the images of charts 1.0 to 4.4: JupyterHub 1.4 to 5.5 on Python 3.8 or newer.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from jupyterhub.proxy import ConfigurableHTTPProxy
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from traitlets import Float


class WatchedProxy(ConfigurableHTTPProxy):  # type: ignore[misc]
    """configurable-http-proxy as the hub knows it, and whose routes are looked after."""

    look_every = Float(2.0, help="Seconds between two looks whether the proxy has its routes.", config=True)

    _looking: asyncio.Task[None] | None = None

    async def check_routes(self, user_dict: Any, service_dict: Any, routes: Any = None) -> None:
        """As upstream's. The first call, at the hub's start, begins to look after the routes."""
        await super().check_routes(user_dict, service_dict, routes)
        if self._looking is None:
            self._looking = asyncio.ensure_future(self._look_after_routes(user_dict, service_dict))

    async def _look_after_routes(self, user_dict: Any, service_dict: Any) -> None:
        while True:
            await asyncio.sleep(self.look_every)
            try:
                if await self._has_lost_its_routes():
                    self.log.warning("The proxy was restarted: giving it its routes again")
                    await self.check_routes(user_dict, service_dict)
            except Exception as error:  # it may be away; the next look is soon
                self.log.debug("The proxy could not be asked for its routes: %r", error)

    async def _has_lost_its_routes(self) -> bool:
        """Asked at once, and not as `api_request` does, which goes on asking for 30 seconds at growing distances."""
        request = HTTPRequest(
            f"{self.api_url.rstrip('/')}/api/routes",
            headers={"Authorization": f"token {self.auth_token}"},
            connect_timeout=2,
            request_timeout=10,
        )
        answer = await AsyncHTTPClient().fetch(request)
        # Each route carries what the hub said of it; its own is never taken away (proxy.py, `add_hub_route`).
        return not any(route.get("hub") for route in json.loads(answer.body).values())
