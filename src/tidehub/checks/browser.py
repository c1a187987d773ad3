"""A user's browser, as far as the path needs one: cookies, redirects, forms, the page's own API calls, websockets."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import httpx
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tidehub.checks.page import Contents, Form, read_page
from tidehub.checks.report import PhaseFailed

_SCREEN = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"
_MOST_REDIRECTS = 20
_LARGEST_MESSAGE = 50 * 2**20
"""Bytes of one websocket message; a cell's picture fits."""


@dataclass(frozen=True)
class Page:
    """An answer to a user: where they ended up, and what it says."""

    url: str
    status: int
    html: str
    contents: Contents

    @property
    def path(self) -> str:
        """The path of `url`."""
        return urlsplit(self.url).path

    @property
    def words(self) -> str:
        """Status and the page's own words, for an explanation."""
        said = self.contents.words
        return f"{self.status} from {self.path}" + (f": {said}" if said else "")


def trust(certificate: Path | None) -> ssl.SSLContext:
    """What this machine trusts, and the platform's own certificate: the operator may have signed it alone.

    The name and the dates in it are checked all the same.
    """
    context = ssl.create_default_context()
    if certificate is not None and certificate.is_file():
        context.load_verify_locations(certificate)
        # A chain may end at the certificate itself or at an intermediate of a private authority.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


class Browser:
    """Talks to one platform through its public `address` (with base path, ending in `/`).

    With `token` it shows that instead of cookies. Faults of the connection become `PhaseFailed`.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        request_timeout: float = 60.0,
        certificate: Path | None = None,
    ) -> None:
        self.address = address if address.endswith("/") else address + "/"
        self.certificate = certificate
        self._tls = trust(certificate)
        self._token = token
        self.http = httpx.AsyncClient(
            timeout=request_timeout,
            verify=self._tls,
            # The path is the platform's front door, not whatever proxy this shell is set up for.
            trust_env=False,
            headers={"User-Agent": "tidehub-check", "Accept-Language": "en"},
        )

    async def __aenter__(self) -> Self:
        await self.http.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self.http.__aexit__(kind, error, trace)

    def url(self, path: str) -> str:
        """A path below the base path, or an absolute path or URL, as a complete URL."""
        return urljoin(self.address, path)

    async def open(self, path: str) -> Page:
        """Goes to a page and follows its redirects."""
        return await self._navigate(self._request("GET", self.url(path), headers=_navigation()))

    async def submit(self, page: Page, form: Form, values: dict[str, str]) -> Page:
        """Sends a form of `page` with its own values and these."""
        target = urljoin(page.url, form.action)
        sent = form.values() | values
        headers = _navigation() | {"Referer": page.url, "Origin": _origin(page.url)}
        if form.method != "post":
            return await self._navigate(self._request("GET", target, params=sent, headers=headers))
        body: dict[str, Any] = (
            {"files": {name: (None, value) for name, value in sent.items()}}
            if form.multipart
            else {"data": sent}
        )
        return await self._navigate(self._request("POST", target, headers=headers, **body))

    async def call(self, method: str, path: str, *, json: Any = None) -> httpx.Response:
        """A call that a page of the platform makes in the background, with its protection against forgery."""
        url = self.url(path)
        answer = await self._send(
            self._request(method, url, json=json, headers=self._background_headers(url))
        )
        if answer.status_code == 403 and "XSRF" in answer.text and url.startswith(self.url("hub/")):
            # An error page of the hub replaces the cookie by an anonymous one; a user would reload.
            await self.open("hub/home")
            answer = await self._send(
                self._request(method, url, json=json, headers=self._background_headers(url))
            )
        return answer

    @asynccontextmanager
    async def stream(self, path: str) -> AsyncIterator[httpx.Response]:
        """An event stream that a page of the platform listens to; without a time limit of its own."""
        url = self.url(path)
        headers = self._background_headers(url) | {"Accept": "text/event-stream"}
        request = self._request("GET", url, headers=headers)
        request.extensions["timeout"] = httpx.Timeout(None, connect=10).as_dict()
        answer = await self.http.send(request, stream=True)
        try:
            yield answer
        finally:
            await answer.aclose()

    def _background_headers(self, url: str) -> dict[str, str]:
        """The headers of a background call of a page on the same site."""
        headers = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin", "Origin": _origin(url)}
        if forgery := self._xsrf(url):
            headers["X-XSRFToken"] = forgery
        return headers

    async def websocket(self, path: str, *, timeout: float) -> WebSocketClientConnection:
        """Opens a websocket with the user's cookies; raises `PhaseFailed` with the refusal."""
        url = self.url(path)
        headers = {"Origin": _origin(url), "Sec-Fetch-Mode": "websocket", "Sec-Fetch-Site": "same-origin"}
        own = self._request("GET", url).headers
        headers |= {name: own[name] for name in ("cookie", "authorization") if name in own}
        secure = url.startswith("https")
        request = HTTPRequest(
            "ws" + url.removeprefix("http"),
            headers=headers,
            connect_timeout=timeout,
            request_timeout=timeout,
            ssl_options=self._tls if secure else None,
        )
        try:
            return await websocket_connect(request, max_message_size=_LARGEST_MESSAGE, ping_interval=20)
        except HTTPClientError as error:
            raise PhaseFailed(f"the websocket {urlsplit(url).path} was refused: {error}") from None
        except OSError as error:
            raise PhaseFailed(f"the websocket {urlsplit(url).path} cannot be opened: {error}") from None

    async def _navigate(self, request: httpx.Request) -> Page:
        for _ in range(_MOST_REDIRECTS):
            answer = await self._send(request)
            if answer.next_request is None:
                break
            # By hand, because httpx keeps the form's content type for the page that follows it.
            follows = "GET" if answer.status_code in (301, 302, 303) else request.method
            body = b"" if follows == "GET" else request.content
            request = self._request(
                follows, str(answer.next_request.url), headers=_navigation(), content=body
            )
        else:
            raise PhaseFailed(f"{request.url.path} redirects in a circle")
        html = answer.text if "html" in answer.headers.get("content-type", "") else ""
        return Page(str(answer.url), answer.status_code, html or answer.text[:2000], read_page(html))

    def _request(
        self, method: str, url: str, *, headers: dict[str, str] | None = None, **body: Any
    ) -> httpx.Request:
        own = (
            {"Authorization": f"token {self._token}"} if self._token and url.startswith(self.address) else {}
        )
        return self.http.build_request(method, url, headers=(headers or {}) | own, **body)

    async def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self.http.send(request)
        except httpx.TimeoutException:
            raise PhaseFailed(
                f"{request.method} {request.url.path} got no answer within {self.http.timeout.read:.0f} s"
            ) from None
        except httpx.HTTPError as error:
            where = f"{request.url.scheme}://{request.url.netloc.decode()}"
            raise PhaseFailed(f"nothing answers at {where}: {error or type(error).__name__}") from None

    def _xsrf(self, url: str) -> str:
        path = urlsplit(url).path
        host = urlsplit(url).hostname or ""
        fitting = [
            cookie
            for cookie in self.http.cookies.jar
            if cookie.name == "_xsrf" and path.startswith(cookie.path) and cookie.domain.startswith(host)
        ]
        # The server believes the cookie of the longest path, which it set last.
        return max(fitting, key=lambda cookie: len(cookie.path)).value or "" if fitting else ""


def _navigation() -> dict[str, str]:
    return {"Accept": _SCREEN, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
