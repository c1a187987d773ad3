"""What the gate before Dask asks of the hub and of the gateway, and believes for a few seconds."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import aiohttp
from jupyterhub.services.auth import HubOAuth
from tornado import web

from tidehub.gateway.dashboards.protocol import GATE_ROUTE, GATE_SCHEME, gate_token

MOST_OPEN = 100
"""Requests and WebSockets to dashboards that one user may have open at once. A page of Dask's has one WebSocket, and
a browser asks for a few dozen files at once; each costs some hundred KiB here."""


@dataclass(frozen=True)
class GateSettings:
    """Everything the gate before the dashboards needs. Times in seconds, URLs complete."""

    site_name: str
    contact: str | None
    prefix: str
    """Path below which all this is served, `<base>services/dask-gateway`, without a final slash."""
    base_path: str
    gateway_url: str
    """What takes the place of the prefix on the way to the gateway."""
    hub_api_url: str
    service_name: str
    service_token: str = field(repr=False)
    key_secret: str = field(repr=False)
    cookie_secret: str = field(repr=False)
    """Hex digits."""
    cache: float = 5.0
    """For how long "this cluster is hers" is believed without asking again."""


@dataclass(frozen=True)
class Found:
    """A cluster as the gateway told of it: `answer` is the HTTP status, `asked` when (monotonic)."""

    asked: float
    answer: int
    owner: str = ""
    status: str = ""
    dashboard: str = ""


class Gate:
    """What all handlers share: the settings, the hub, the way to the gateway, and who owns what, for a few
    seconds.
    """

    def __init__(
        self,
        settings: GateSettings,
        session: aiohttp.ClientSession,
        to_gateway: aiohttp.ClientSession,
        to_hub: aiohttp.ClientSession,
    ) -> None:
        self.settings = settings
        self.session = session
        """To dashboards."""
        self.to_gateway = to_gateway
        self.to_hub = to_hub
        self.hub = HubOAuth(
            api_url=settings.hub_api_url,
            api_token=settings.service_token,
            oauth_client_id=f"service-{settings.service_name}",
            base_url=f"{settings.prefix}/",
            hub_prefix=f"{settings.base_path}hub/",
            hub_host="",
            oauth_redirect_uri=f"{settings.prefix}/oauth_callback",
            access_scopes={"access:services", f"access:services!service={settings.service_name}"},
            cache_max_age=60,
        )
        self._clusters: dict[str, Found] = {}
        self._admins: dict[str, tuple[float, bool]] = {}
        self._open: Counter[str] = Counter()
        self._token = {"Authorization": f"{GATE_SCHEME} {gate_token(settings.key_secret)}"}

    @contextmanager
    def one_more(self, name: str) -> Iterator[None]:
        """While a user has one more request open. Raises `HTTPError` 429 when they have too many."""
        if self._open[name] >= MOST_OPEN:
            raise web.HTTPError(
                429, f"You have {MOST_OPEN} requests to dashboards open. Close some of their pages."
            )
        self._open[name] += 1
        try:
            yield
        finally:
            self._open[name] -= 1
            if not self._open[name]:
                del self._open[name]

    def upstream(self, uri: str) -> str:
        """The gateway's own address for a request's path and query below the prefix."""
        return self.settings.gateway_url + (uri.removeprefix(self.settings.prefix) or "/")

    async def look_up(self, cluster: str) -> Found:
        """What the gateway tells of a cluster; believed for a few seconds, and longer while it does not answer."""
        now = time.monotonic()
        known = self._clusters.get(cluster)
        if known is not None and now - known.asked < self.settings.cache:
            return known
        url = self.settings.gateway_url + GATE_ROUTE.format(cluster_name=cluster)
        timeout = aiohttp.ClientTimeout(total=15)
        found = Found(now, 502)
        try:
            async with self.to_gateway.get(url, headers=self._token, timeout=timeout) as answer:
                if answer.status == 200:
                    found = Found(now, 200, **await answer.json())
                elif answer.status == 404 and answer.content_type == "application/json":
                    found = Found(now, 404)
        except (aiohttp.ClientError, TimeoutError):
            pass  # as any other answer, which is not the gateway's own
        if found.answer == 502:
            # A gateway that restarts is no reason to break a dashboard that is open.
            return known if known is not None and now - known.asked < 300 else found
        self._clusters = {k: v for k, v in self._clusters.items() if now - v.asked < 300}
        if found.answer == 200:
            self._clusters[cluster] = found
        return found

    async def is_admin(self, name: str) -> bool:
        """Whether the hub calls this user an administrator (asked with the service's own token)."""
        now = time.monotonic()
        then, known = self._admins.get(name, (float("-inf"), False))
        if now - then < 30:
            return known
        url = f"{self.settings.hub_api_url}/users/{name}"
        headers = {"Authorization": f"token {self.settings.service_token}"}
        try:
            async with self.to_hub.get(
                url, headers=headers, timeout=aiohttp.ClientTimeout(total=10)
            ) as answer:
                admin = answer.status == 200 and bool((await answer.json()).get("admin"))
        except (aiohttp.ClientError, TimeoutError):
            return False
        self._admins[name] = (now, admin)
        return admin
