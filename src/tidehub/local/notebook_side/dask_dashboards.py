"""A Jupyter server extension: Dask's plots inside JupyterLab, through the gateway that has the dashboards.

dask-labextension 7 shows a cluster's plots through the notebook server, but keeps only host and port of the
dashboard's link (`DaskDashboardHandler._get_parsed`), where a gateway's link has a path; and it has no login
to show to anybody. So for links of our gateway, and for no others, the path is kept, and who guards the dashboards is
asked as it has to be: see `Gate`, and `OpenGateway` for hubs on Kubernetes that are too old to have one.

In the browser the extension takes a bare path, as `cluster.dashboard_link` is one, for a path below the notebook
server (`normalizeDashboardUrl`). So the dashboards are there too: without that, neither "Launch dashboard in
JupyterLab" nor the search for a notebook's cluster finds anything. This file runs in the notebook environment, or in a
pod with an image's Python from 3.8 on: it imports nothing of ours.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from typing import Any
from urllib.parse import unquote, urlsplit

import dask_clusters  # type: ignore[import-not-found]  # beside this file
from dask_labextension import clusterhandler, dashboardhandler  # type: ignore[import-not-found, unused-ignore]
from dask_labextension.manager import manager  # type: ignore[import-not-found, unused-ignore]
from jupyter_server_proxy.handlers import ProxyHandler  # type: ignore[import-not-found, unused-ignore]
from tornado import httpclient, web


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "dask_dashboards"}]


NAME = r"(?:[a-z0-9-]+\.)?[A-Za-z0-9]+"
"""A cluster's name: `HEX`, and on Kubernetes `NAMESPACE.HEX`."""


GUARDED = "TIDEHUB_DASHBOARDS"
"""Where the gate answers, if that is not where the gateway does."""


def _load_jupyter_server_extension(server_app: Any) -> None:
    load(server_app, Gate())


def load_on_kubernetes(server_app: Any) -> None:
    """The same in a pod, where with older hubs nobody guards the dashboards."""
    load(server_app, Gate() if GUARDED in os.environ else OpenGateway())


def load(server_app: Any, gate: Gate) -> None:
    """Changes the extension's handlers, and adds the pages of dashboards below the notebook server."""
    _change(dashboardhandler.DaskDashboardHandler, dashboardhandler.DaskDashboardCheckHandler, gate)
    gate.own = dask_clusters.extend(clusterhandler.DaskClusterHandler, manager)
    application = server_app.web_app
    base = application.settings["base_url"].rstrip("/")
    public = urlsplit(os.environ.get("DASK_GATEWAY__PUBLIC_ADDRESS", "")).path.rstrip("/")
    page = rf"{re.escape(base + public)}/clusters/({NAME})(/.*)"
    application.add_handlers(".*$", [(page, OwnDashboardHandler, {"gate": gate})])


class Gate:
    """It asks each request whose it is, so it is shown the server's token, and keeps that to itself."""

    own: Any = None
    """The `OwnClusters` of this server."""

    def headers(self) -> dict[str, str]:
        """What the way to a dashboard is shown: here the notebook server's own token, which has access."""
        return {"Authorization": f"token {os.environ.get('JUPYTERHUB_API_TOKEN', '')}"}

    async def admits(self, name: str) -> bool:
        """Whether the user may see the dashboard of that cluster: here the gate says so itself."""
        return True


class OpenGateway(Gate):
    """That of hubs without a gate: traefik leads everybody to every cluster's scheduler, and passes on all it gets.

    A scheduler runs what its user wants. So no token goes there, and at the notebook server's address, where a page
    could act as the user, are the user's own clusters only.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()

    def headers(self) -> dict[str, str]:
        return {}

    async def admits(self, name: str) -> bool:
        # A name is never used again, so who was its owner stays so.
        if name not in self._known:
            try:
                self._known |= await asyncio.wait_for(self.own.running(), dask_clusters.PATIENCE)
            except Exception as error:  # whatever a gateway or a network does
                raise web.HTTPError(503, "The Dask gateway did not say whose cluster this is") from error
        return name in self._known


def behind_the_gate(link: str, host: str) -> str | None:
    """The dashboard of `link` at the gate's own address, without `/status`; None when it is not our
    gateway's.

    `host` is that of the page: a link to another host never gets our token.
    """
    public = os.environ.get("DASK_GATEWAY__PUBLIC_ADDRESS", "").rstrip("/")
    gate = _address()
    parts = urlsplit(link)
    if not public or not gate or (parts.netloc and parts.netloc != host):
        return None
    found = re.fullmatch(rf"{re.escape(urlsplit(public).path)}/clusters/({NAME})(?:/status)?/?", parts.path)
    return f"{gate}/clusters/{found[1]}" if found else None


class OwnDashboardHandler(ProxyHandler):  # type: ignore[misc, unused-ignore]
    """Pages of the dashboard of one cluster, at their own path below the notebook server."""

    SUPPORTED_METHODS = ("GET", "HEAD")

    def initialize(self, gate: Gate) -> None:
        """`gate` is who guards the dashboards."""
        self.gate = gate

    async def http_get(self, name: str, path: str) -> Any:
        """A page. Only whoever may see it gets it."""
        return await self.proxy(*await self._found(name, path))

    async def head(self, name: str, path: str) -> Any:
        """The headers of a page."""
        return await self.proxy(*await self._found(name, path))

    async def open(self, name: str, path: str) -> Any:
        """The WebSocket with which a page is kept up to date."""
        return await self.proxy_open(*await self._found(name, path))

    def proxy_request_headers(self) -> Any:
        """What is passed on of the request: nothing with which the browser logged in."""
        return _passed_on(super().proxy_request_headers(), self.gate)

    async def _found(self, name: str, path: str) -> tuple[str, int, str]:
        """Host, port and path of a page of a cluster's dashboard."""
        # jupyter-server-proxy before 4.1.1 and 3.2.3 lets everybody open a WebSocket.
        if not self.current_user:
            raise web.HTTPError(403)
        if not await self.gate.admits(name):
            raise web.HTTPError(404, "None of your running clusters has this name")
        return _way(self, f"{_address()}/clusters/{name}", path)


def _address() -> str:
    """Where dashboards are, as this server reaches it."""
    return (os.environ.get(GUARDED) or os.environ.get("DASK_GATEWAY__ADDRESS", "")).rstrip("/")


def _way(handler: Any, dashboard: str, page: str) -> tuple[str, int, str]:
    """Host, port and path of a page of a dashboard at the gateway, to which `handler` may go then."""
    parts = urlsplit(dashboard)
    if parts.scheme != "http":
        raise web.HTTPError(404, "Dashboards are shown here at an address that begins with http://")
    if ".." in page.split("/"):  # written as %2F: it would lead to the dashboard of another cluster
        raise web.HTTPError(404)
    host = parts.hostname or ""
    # By itself jupyter-server-proxy goes to this machine only; the second name is that of version 3 and older.
    handler.host_allowlist = handler.host_whitelist = [host]
    return host, parts.port or 80, parts.path + page


def _passed_on(headers: Any, gate: Gate) -> Any:
    for name in ("Authorization", "Cookie", "X-Xsrftoken"):
        headers.pop(name, None)
    headers.update(gate.headers())
    return headers


def _change(dashboard: Any, check: Any, gate: Gate) -> None:
    if getattr(dashboard, "_tidehub_changed", False):
        return
    proxied, opened, headers_of, checked = (
        dashboard.proxy,
        dashboard.open,
        dashboard.proxy_request_headers,
        check.get,
    )

    def target(handler: Any, cluster_id: str, page: str) -> tuple[str, int, str] | None:
        model = manager.get_cluster(cluster_id)
        found = behind_the_gate(model["dashboard_link"], handler.request.host) if model else None
        if found is None:
            return None
        handler._tidehub_gate = True
        return _way(handler, found, page)

    def proxy(self: Any, cluster_id: str, proxied_path: str) -> Any:
        found = target(self, cluster_id, proxied_path)
        if found is None:
            return proxied(self, cluster_id, proxied_path)
        return ProxyHandler.proxy(self, *found)

    async def open_(self: Any, cluster_id: str, proxied_path: str) -> Any:
        found = target(self, cluster_id, proxied_path)
        if found is None:
            return await opened(self, cluster_id, proxied_path)
        return await ProxyHandler.proxy_open(self, *found)

    def proxy_request_headers(self: Any) -> Any:
        headers = headers_of(self)
        if getattr(self, "_tidehub_gate", False):
            _passed_on(headers, gate)
        return headers

    @web.authenticated
    async def get(self: Any, url: str) -> None:
        link = unquote(url)
        found = behind_the_gate(link, self.request.host)
        if found is None:
            await checked(self, url)
            return
        plots, active = {}, False
        try:
            if not await gate.admits(found.rpartition("/")[2]):
                raise ValueError("it is none of the user's clusters")
            request = httpclient.HTTPRequest(
                f"{found}/individual-plots.json", headers=gate.headers(), follow_redirects=False
            )
            plots = json.loads((await httpclient.AsyncHTTPClient().fetch(request)).body)
            active = True
        except (httpclient.HTTPClientError, web.HTTPError, OSError, ValueError) as error:
            self.log.debug("No dashboard at %s: %s", link, error)
        link = link[: -len("/status")] if link.endswith("/status") else link
        self.finish(json.dumps({"url": link, "isActive": active, "effectiveUrl": None, "plots": plots}))

    dashboard.proxy, dashboard.open = proxy, open_
    dashboard.proxy_request_headers = proxy_request_headers
    dashboard._tidehub_changed = True
    check.get = get
