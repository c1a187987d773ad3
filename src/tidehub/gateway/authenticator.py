"""Who asks the gateway: the hub says, through the token that comes with the request."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any

import aiohttp
from aiohttp import web
from dask_gateway_server.auth import JupyterHubAuthenticator, unauthorized
from dask_gateway_server.models import User
from traitlets import Bool, Unicode

_TIMEOUT = asyncio.TimeoutError  # another class in Python 3.10, which older images have
BELIEVED = 15 * 60.0
"""Seconds for which a token that was good stays good while the hub cannot be asked (it restarts, say)."""
FRESH = 10.0
"""Seconds for which a good token is not asked about again."""


class HubAuthenticator(JupyterHubAuthenticator):  # type: ignore[misc]
    """Upstream's, with three faults put right (dask-gateway-server 2022.6.1 to 2026.3.0, auth.py).

    A token that the hub does not know gives 401, not 500. A hub that does not answer gives 503 with words,
    not 500. A token that was good a moment ago is believed while the hub restarts, so that running clusters
    can go on. Upstream's cookie is not used: it would outlive a revoked token by minutes.

    The hub is asked with the user's own token, so that access scopes count with every version: before 2025.4
    upstream asked with the service's token, and knew no scopes.
    """

    jupyterhub_service_name = Unicode("", help="The gateway's name as a service of the hub.", config=True)
    hub_has_scopes = Bool(True, help="Whether the hub has scopes: JupyterHub 2 and newer.", config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._known: dict[str, tuple[float, User]] = {}

    async def authenticate_and_handle(self, request: web.Request, handler: Any) -> Any:
        request["user"] = await self.authenticate(request)
        return await handler(request)

    def get_token(self, request: web.Request) -> str | None:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        return token.strip() or None if kind.lower() == "jupyterhub" else None

    async def authenticate(self, request: web.Request) -> User:
        token = self.get_token(request)
        if token is None:
            raise unauthorized("jupyterhub")
        digest = hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
        now = time.monotonic()
        asked, user = self._known.get(digest, (float("-inf"), None))
        if user is not None and now - asked < FRESH:
            return user
        try:
            user = await self._ask(token)
        except (aiohttp.ClientError, _TIMEOUT, web.HTTPBadGateway) as error:
            if user is not None and now - asked < BELIEVED:
                self.log.warning(
                    "The hub does not answer; a token that it confirmed before is accepted for now"
                )
                return user
            raise web.HTTPServiceUnavailable(
                reason="The hub does not answer at the moment, so no token can be checked. Try again in a few seconds.",
                headers={"Retry-After": "5"},
            ) from error
        except web.HTTPUnauthorized:
            self._known.pop(digest, None)
            raise
        self._known[digest] = (now, user)
        if len(self._known) > 10_000:
            self._known = {k: v for k, v in self._known.items() if now - v[0] < BELIEVED}
        return user

    async def _ask(self, token: str) -> User:
        headers = {"Authorization": f"token {token}"}
        timeout = aiohttp.ClientTimeout(total=10)
        url = f"{self.jupyterhub_api_url}/user"
        # Absent, not True or None: aiohttp 3.8 and 3.14 mean different things by both.
        tls = {"ssl": self.ssl_context} if self.ssl_context else {}
        async with self.session.get(url, headers=headers, timeout=timeout, **tls) as answer:
            if answer.status in (401, 403, 404):
                raise unauthorized("jupyterhub")
            # 502..504 come from a proxy before a hub that is down; other faults of the hub are no verdict either.
            if answer.status >= 400:
                raise web.HTTPBadGateway(reason=f"The hub answered {answer.status}")
            model = await answer.json()
        return self._user(model)

    def _user(self, model: dict[str, Any]) -> User:
        wanted = {"access:services", f"access:services!service={self.jupyterhub_service_name}"}
        if self.hub_has_scopes and not wanted & set(model.get("scopes", [])):
            raise unauthorized("jupyterhub")
        name = model["name"]
        if model.get("kind") != "user" or ":" in name:
            # As upstream: a service must never pass for the user of the same name.
            name = f"{model.get('kind')}:{name}"
        return User(name, groups=model.get("groups", []), admin=model.get("admin", False))
