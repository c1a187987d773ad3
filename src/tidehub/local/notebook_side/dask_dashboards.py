"""A Jupyter server extension: Dask's plots inside JupyterLab, through the gate before the dashboards.

dask-labextension 7 shows a cluster's plots through the notebook server, but keeps only host and port of the
dashboard's link (`DaskDashboardHandler._get_parsed`), where a gateway's link has a path; and it has no login
to show to anybody. So for links of our gateway, and for no others, the path is kept and the server's own
token is presented.

In the browser the extension takes a bare path, as `cluster.dashboard_link` is one, for a path below the notebook
server (`normalizeDashboardUrl`). So the dashboards are there too: without that, neither "Launch dashboard in
JupyterLab" nor the search for a notebook's cluster finds anything. This file runs in the notebook environment: it
imports nothing of ours.
"""

from __future__ import annotations

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


def _load_jupyter_server_extension(server_app: Any) -> None:
    _change(dashboardhandler.DaskDashboardHandler, dashboardhandler.DaskDashboardCheckHandler)
    dask_clusters.extend(clusterhandler.DaskClusterHandler, manager)
    application = server_app.web_app
    base = application.settings["base_url"].rstrip("/")
    public = urlsplit(os.environ.get("DASK_GATEWAY__PUBLIC_ADDRESS", "")).path.rstrip("/")
    application.add_handlers(
        ".*$", [(rf"{re.escape(base + public)}/clusters/([A-Za-z0-9]+)(/.*)", OwnDashboardHandler)]
    )


def behind_the_gate(link: str, host: str) -> str | None:
    """The dashboard of `link` at the gate's own address, without `/status`; None when it is not our
    gateway's.

    `host` is that of the page: a link to another host never gets our token.
    """
    public = os.environ.get("DASK_GATEWAY__PUBLIC_ADDRESS", "").rstrip("/")
    gate = os.environ.get("DASK_GATEWAY__ADDRESS", "").rstrip("/")
    parts = urlsplit(link)
    if not public or not gate or (parts.netloc and parts.netloc != host):
        return None
    prefix = f"{urlsplit(public).path}/clusters/"
    name, _, rest = parts.path.removeprefix(prefix).partition("/")
    if not parts.path.startswith(prefix) or not name.isalnum() or rest.strip("/") not in ("", "status"):
        return None
    return f"{gate}/clusters/{name}"


def token_header() -> dict[str, str]:
    """The notebook server's own token, which has access to the gateway."""
    return {"Authorization": f"token {os.environ.get('JUPYTERHUB_API_TOKEN', '')}"}


class OwnDashboardHandler(ProxyHandler):  # type: ignore[misc, unused-ignore]
    """Pages of the dashboard of one cluster, at their own path below the notebook server."""

    SUPPORTED_METHODS = ("GET", "HEAD")

    async def http_get(self, name: str, path: str) -> Any:
        """A page. The gate refuses whoever may not see it."""
        return await self.proxy(*_gate_of(name, path))

    async def head(self, name: str, path: str) -> Any:
        """The headers of a page."""
        return await self.proxy(*_gate_of(name, path))

    async def open(self, name: str, path: str) -> Any:
        """The WebSocket with which a page is kept up to date."""
        return await self.proxy_open(*_gate_of(name, path))

    def proxy_request_headers(self) -> Any:
        """What the gate is told of the request: the server's token, and nothing with which the browser logged in."""
        return _for_gate(super().proxy_request_headers())


def _gate_of(name: str, path: str) -> tuple[str, int, str]:
    """Host, port and path of a page of a cluster's dashboard."""
    parts = urlsplit(os.environ.get("DASK_GATEWAY__ADDRESS", "").rstrip("/"))
    return parts.hostname or "", parts.port or 80, f"{parts.path}/clusters/{name}{path}"


def _for_gate(headers: Any) -> Any:
    headers.update(token_header())
    for name in ("Cookie", "X-Xsrftoken"):
        headers.pop(name, None)
    return headers


def _change(dashboard: Any, check: Any) -> None:
    if getattr(dashboard, "_tidehub_changed", False):
        return
    proxied, opened, headers_of, checked = (
        dashboard.proxy,
        dashboard.open,
        dashboard.proxy_request_headers,
        check.get,
    )

    def target(handler: Any, cluster_id: str) -> tuple[str, int, str] | None:
        model = manager.get_cluster(cluster_id)
        found = behind_the_gate(model["dashboard_link"], handler.request.host) if model else None
        if found is None:
            return None
        handler._tidehub_gate = True
        parts = urlsplit(found)
        return parts.hostname or "", parts.port or 80, parts.path

    def proxy(self: Any, cluster_id: str, proxied_path: str) -> Any:
        found = target(self, cluster_id)
        if found is None:
            return proxied(self, cluster_id, proxied_path)
        host, port, prefix = found
        return ProxyHandler.proxy(self, host, port, prefix + proxied_path)

    async def open_(self: Any, cluster_id: str, proxied_path: str) -> Any:
        found = target(self, cluster_id)
        if found is None:
            return await opened(self, cluster_id, proxied_path)
        host, port, prefix = found
        return await ProxyHandler.proxy_open(self, host, port, prefix + proxied_path)

    def proxy_request_headers(self: Any) -> Any:
        headers = headers_of(self)
        if getattr(self, "_tidehub_gate", False):
            _for_gate(headers)
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
            request = httpclient.HTTPRequest(
                f"{found}/individual-plots.json", headers=token_header(), follow_redirects=False
            )
            plots = json.loads((await httpclient.AsyncHTTPClient().fetch(request)).body)
            active = True
        except (httpclient.HTTPClientError, OSError, ValueError) as error:
            self.log.debug("No dashboard at %s: %s", link, error)
        link = link.removesuffix("/status")
        self.finish(json.dumps({"url": link, "isActive": active, "effectiveUrl": None, "plots": plots}))

    dashboard.proxy, dashboard.open = proxy, open_
    dashboard.proxy_request_headers = proxy_request_headers
    dashboard._tidehub_changed = True
    check.get = get
