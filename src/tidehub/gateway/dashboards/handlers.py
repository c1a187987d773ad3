"""The gate before Dask: the service `dask-gateway` of the hub.

Everything below `<base>services/dask-gateway/` comes here. The gateway's own interface (`/api/...`) is passed
on to it: it asks for a token itself. `/clusters/<name>/...` are dashboards, which ask for
nothing, so the gate does: the hub says who it is, and the gateway (`telling.py`) whose the cluster is and where
its dashboard is. Then the cluster's key is added, without which a dashboard of one machine would not answer
(`local/gateway/preloads/dashboard_guard.py`). Nothing goes through the gateway's own proxy.

What a dashboard serves is the user's own code. It gets neither cookies nor tokens, and may set no cookie
here.
"""

from __future__ import annotations

import asyncio
import html
import logging
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import aiohttp
from jupyterhub.services.auth import HubOAuthCallbackHandler, HubOAuthenticated
from tornado import web
from tornado.iostream import StreamClosedError
from tornado.routing import Matcher, PathMatches, Rule

from tidehub.gateway.dashboards import pages
from tidehub.gateway.dashboards.forwarding import Body, forward, passed_on, tunnel
from tidehub.gateway.dashboards.gate import Gate
from tidehub.gateway.dashboards.protocol import KEY_HEADER, STATUS_ROUTE, dashboard_key

NOT_FOR_CLUSTERS = frozenset({"cookie", "authorization", "x-xsrftoken", KEY_HEADER.lower()})
"""Request headers that a user's own code must not see, or must not be given by a browser."""
NOT_FROM_CLUSTERS = frozenset(
    {"set-cookie", "clear-site-data", "service-worker-allowed", "content-security-policy", "x-frame-options"}
)
API = r"/api(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+/?"
"""Paths of the gateway's own interface. Nothing encoded and no `..`: the gateway's proxy decodes and resolves them,
and its other paths lead to everybody's dashboards."""
SECURITY = {"Content-Security-Policy": "frame-ancestors 'self'", "X-Content-Type-Options": "nosniff"}

_LOG = logging.getLogger("tidehub.gate")


@dataclass(frozen=True)
class Admitted:
    """Who may see a dashboard, and its origin."""

    name: str
    dashboard: str


class GateHandler(HubOAuthenticated, web.RequestHandler):  # type: ignore[misc]
    """A handler that knows the gate, and shows its refusals as pages."""

    def initialize(self) -> None:
        self.gate: Gate = self.settings["gate"]
        self.hub_auth = self.gate.hub

    def set_default_headers(self) -> None:
        for name, value in SECURITY.items():
            self.set_header(name, value)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        # Tornado's own words name a method and a path; only texts that were written for users are shown.
        said = error.log_message if isinstance(error, web.HTTPError) and error.log_message else ""
        said = said % error.args if said and error.args else said
        if "text/html" in self.request.headers.get("Accept", ""):
            self.set_header("Content-Type", "text/html; charset=UTF-8")
            settings = self.gate.settings
            self.finish(
                pages.refusal(
                    settings.site_name, settings.base_path, status_code, html.escape(said), settings.contact
                )
            )
        else:
            self.set_header("Content-Type", "text/plain; charset=UTF-8")
            self.finish(f"{said or pages.TITLES.get(status_code, 'Something went wrong')}\n")

    def log_exception(self, kind: Any, value: Any, trace: Any) -> None:
        """As tornado's, without the query, which may hold a token; refusals are `_log`'s."""
        if not isinstance(value, web.HTTPError):
            where = (self.request.method, self.request.path)
            _LOG.error("Uncaught exception %s %s", *where, exc_info=(kind, value, trace))

    async def visitor(self) -> dict[str, Any] | None:
        """Who asks, as the hub says; None when nobody is logged in. Raises `HTTPError` 403 or 503."""
        try:
            model = await self.hub_auth.get_user(self, sync=False)
        except web.HTTPError as error:
            if error.status_code >= 500:
                raise web.HTTPError(
                    503, "The hub does not answer just now. Try again in a few seconds."
                ) from None
            raise
        if not model:
            return None
        if not self.hub_auth.check_scopes(self.hub_scopes, model):
            raise web.HTTPError(403, "Your token does not allow access to Dask clusters.")
        self._hub_auth_user_cache = model
        return dict(model)

    async def admit(self, cluster: str) -> Admitted | None:
        """The way to this cluster's dashboard if the visitor may see it; None when nobody is logged in.

        Raises `HTTPError` with words for those who may not.
        """
        model = await self.visitor()
        if model is None:
            return None
        name = str(model["name"])
        self._refuse_foreign_page(name)
        found = await self.gate.look_up(cluster)
        if found.answer not in (200, 404):
            raise web.HTTPError(503, "The Dask gateway does not answer just now. Try again in a few seconds.")
        # As the gateway names its users: a service must never pass for the user of the same name.
        is_user = model.get("kind") == "user"
        if found.answer == 200 and not (is_user and (found.owner == name or await self.gate.is_admin(name))):
            raise web.HTTPError(
                403, "This dashboard belongs to another user. Only the owner of a cluster sees it."
            )
        if found.status != "RUNNING" or not found.dashboard:
            raise web.HTTPError(
                404, "There is no such running cluster. It was shut down, or has not started yet."
            )
        return Admitted(name, found.dashboard)

    def _send_to_login(self) -> None:
        navigates = self.request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"
        if self.request.method in ("GET", "HEAD") and navigates and not _is_upgrade(self.request):
            self.redirect(self.get_login_url())
        else:
            raise web.HTTPError(403, "Log in first: open the dashboard in a page of its own.")

    def _refuse_foreign_page(self, name: str) -> None:
        """All users' pages share one origin. A page of another user's server may not open this dashboard
        in a frame and read it; browsers say where a request comes from, unless that page forbids it, as
        JupyterLab's Dask panel does for its frames. They never say it of a WebSocket. (Users who need more give
        each user a domain.)"""
        headers = self.request.headers
        # The proxy in front looks up decoded paths: `/%75ser/bob/` is bob's server too.
        referrer = unquote(_address(headers.get("Referer", "")).path)
        start = f"{self.gate.settings.base_path}user/"
        if referrer.startswith(start) and referrer[len(start) :].split("/", 1)[0] != name:
            raise web.HTTPError(
                403, "This dashboard was opened from another user's page. Open it from your own."
            )


@web.stream_request_body
class ApiHandler(GateHandler):
    """Passes everything that is the gateway's own on, unchanged."""

    async def prepare(self) -> None:
        self._body = _body_of(self)
        self._forwarding = asyncio.ensure_future(self._forward())

    async def data_received(self, chunk: bytes) -> None:
        if self._body is not None:
            await self._body.add(chunk)

    async def _forward(self) -> None:
        url = self.gate.upstream(self.request.uri or "")
        # The key never comes from outside.
        headers = passed_on(self.request.headers, without=frozenset({KEY_HEADER.lower()}))
        await forward(self, self.gate.to_gateway, url, headers=headers, body=self._body)

    async def _answer(self, *_: str) -> None:
        if self._body is not None:
            await self._body.end()
        await asyncio.wait([self._forwarding])
        error = None if self._forwarding.cancelled() else self._forwarding.exception()
        if self._forwarding.cancelled() or isinstance(error, StreamClosedError):
            # Who asked is gone, which tornado would report with a traceback.
            self._auto_finish = False
        elif error is not None:
            raise error

    get = head = post = put = patch = delete = options = _answer

    def check_xsrf_cookie(self) -> None:
        """The gateway takes no cookie that a browser has, so there is nothing to forge."""

    def on_connection_close(self) -> None:
        self._forwarding.cancel()


@web.stream_request_body
class DashboardHandler(ApiHandler):
    """Pages of schedulers and workers."""

    _refusal: web.HTTPError | None = None
    _admitted: Admitted | None = None

    async def prepare(self) -> None:
        self._body = None
        cluster = self.path_args[0]
        try:
            self._admitted = await self.admit(cluster)
        except web.HTTPError as refusal:
            # Answered when the request has been read: tornado cuts a connection that is answered before, and
            # the proxy in front would use it once more.
            self._refusal = refusal
        if self._admitted is not None:
            self._body = _body_of(self)
            self._forwarding = asyncio.ensure_future(self._forward_to(cluster, self._admitted))

    async def _answer(self, *words: str) -> None:
        if self._refusal is not None:
            raise self._refusal
        if self._admitted is not None:
            await super()._answer(*words)
        else:
            self._send_to_login()

    get = head = post = put = patch = delete = options = _answer

    async def _forward_to(self, cluster: str, admitted: Admitted) -> None:
        url, headers = _for_cluster(self, cluster, admitted.dashboard)
        try:
            with self.gate.one_more(admitted.name):
                await forward(
                    self,
                    self.gate.session,
                    url,
                    headers=headers,
                    body=self._body,
                    drop=NOT_FROM_CLUSTERS,
                    add=SECURITY,
                )
        finally:
            if self._body is not None:
                self._body.abandon()

    def on_connection_close(self) -> None:
        if hasattr(self, "_forwarding"):
            self._forwarding.cancel()


class DashboardSocket(GateHandler):
    """WebSockets of dashboards (bokeh's `.../ws`)."""

    async def get(self, cluster: str) -> None:
        if not _same_origin(self.request.headers):
            raise web.HTTPError(403, "A page of another site may not open this dashboard.")
        admitted = await self.admit(cluster)
        if admitted is None:
            self._send_to_login()
            return
        url, headers = _for_cluster(self, cluster, admitted.dashboard)
        with self.gate.one_more(admitted.name):
            await tunnel(self, url, headers=headers)


class NothingHere(GateHandler):
    """What is neither the gateway's interface nor a dashboard."""

    def prepare(self) -> None:
        raise web.HTTPError(404)


class HomeHandler(GateHandler):
    """A user's clusters: which run, which wait and why, with their dashboards."""

    async def get(self) -> None:
        if await self.visitor() is None:
            self._send_to_login()
            return
        url = self.gate.settings.gateway_url + STATUS_ROUTE
        headers = {"Authorization": f"jupyterhub {self.hub_auth.get_token(self)}"}
        try:
            async with self.gate.to_gateway.get(url, headers=headers) as answer:
                if answer.status != 200:
                    raise web.HTTPError(
                        503, "The Dask gateway does not answer just now. Try again in a few seconds."
                    )
                clusters = (await answer.json())["clusters"]
        except aiohttp.ClientError as error:
            raise web.HTTPError(503, "The Dask gateway does not answer just now.") from error
        settings = self.gate.settings
        self.finish(pages.clusters(settings.site_name, settings.base_path, settings.prefix, clusters))


class HealthHandler(web.RequestHandler):
    """Whether the gate itself works, whatever hub and gateway do."""

    def get(self) -> None:
        self.finish({"status": "pass"})


class CallbackHandler(GateHandler, HubOAuthCallbackHandler):  # type: ignore[misc]
    """The end of a login at the hub."""


class Upgrade(Matcher):
    """Matches requests for a WebSocket on a path."""

    def __init__(self, pattern: str) -> None:
        self._path = PathMatches(pattern)

    def match(self, request: Any) -> dict[str, Any] | None:
        return self._path.match(request) if _is_upgrade(request) else None


def _is_upgrade(request: Any) -> bool:
    return bool(request.headers.get("Upgrade", "").lower() == "websocket")


def _address(said: str) -> SplitResult:
    """An address that a browser tells in a header; any program may tell another."""
    try:
        return urlsplit(said)
    except ValueError:
        raise web.HTTPError(400, "A header of this request holds an address that is not valid.") from None


def _same_origin(headers: Any) -> bool:
    """Whether a WebSocket comes from a page of this address; clients that are no browsers say nothing of it."""
    origin = headers.get("Origin", "")
    return not origin or _address(origin).netloc.lower() == headers.get("Host", "").lower()


def _body_of(handler: web.RequestHandler) -> Body | None:
    headers = handler.request.headers
    return Body() if headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in headers else None


def _for_cluster(handler: GateHandler, cluster: str, dashboard: str) -> tuple[str, Any]:
    """Where a request goes, and its headers. A dashboard knows nothing of the prefix and its cluster's name."""
    gate = handler.gate
    headers = passed_on(handler.request.headers, without=NOT_FOR_CLUSTERS)
    headers[KEY_HEADER] = dashboard_key(gate.settings.key_secret, cluster)
    inside = (handler.request.uri or "").removeprefix(f"{gate.settings.prefix}/clusters/{cluster}")
    return dashboard + (inside if inside.startswith("/") else f"/{inside}"), headers


def application(gate: Gate) -> web.Application:
    """The gate's web application."""
    prefix = gate.settings.prefix
    dashboards = rf"{prefix}/clusters/([A-Za-z0-9.-]+)(?:/.*)?"
    return web.Application(
        [
            Rule(Upgrade(dashboards), DashboardSocket),
            (rf"{prefix}/oauth_callback", CallbackHandler),
            (rf"{prefix}/health", HealthHandler),
            (rf"{prefix}/?", HomeHandler),
            (dashboards, DashboardHandler),
            (rf"{prefix}{API}", ApiHandler),
        ],
        gate=gate,
        default_handler_class=NothingHere,
        cookie_secret=bytes.fromhex(gate.settings.cookie_secret),
        log_function=_log,
    )


def _log(handler: web.RequestHandler) -> None:
    if handler.get_status() >= 500:
        path = handler.request.path  # the query may hold a token
        _LOG.warning("%d %s %s", handler.get_status(), handler.request.method, path)
