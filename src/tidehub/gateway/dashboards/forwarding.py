"""A streaming reverse proxy for HTTP and WebSockets: of whatever size or length, a few pieces are held.

What is behind is a user's own code, and this process serves all: nothing that it sends may cost more than that.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping

import aiohttp
from multidict import CIMultiDict
from tornado import httputil, iostream, web
from tornado.tcpclient import TCPClient
from yarl import URL

HOP_BY_HOP = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"),
        *("te", "trailer", "transfer-encoding", "upgrade", "content-length", "host"),
    }
)
"""Headers that concern one connection only (RFC 9110, 7.6.1), and those that the client writes itself."""
PIECES = 8
"""How many pieces of a body may lie between the two sides."""
PIECE = 1 << 16
"""Bytes that are passed on at once, and of the largest head of an answer to a WebSocket."""
PATIENCE = 10
"""Seconds in which a connection is made, and a WebSocket answered."""
ANSWERED = ("Sec-WebSocket-Accept", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions")
"""What of the answer to a WebSocket concerns the browser."""
_AWAY = "Dask does not answer just now"
_NOT_HTTP = "The dashboard's answer is not valid HTTP"


def passed_on(headers: Mapping[str, str], *, without: frozenset[str] = frozenset()) -> CIMultiDict[str]:
    """The headers that go to the other side: neither hop-by-hop nor named by Connection, nor in `without`."""
    named = {word.strip().lower() for word in headers.get("Connection", "").split(",")}
    dropped = HOP_BY_HOP | named | without
    pairs = headers.get_all() if isinstance(headers, httputil.HTTPHeaders) else headers.items()
    return CIMultiDict((name, value) for name, value in pairs if name.lower() not in dropped)


class Body:
    """A request's body on its way: filled as it arrives, read by the client."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(PIECES)
        self._closed = False

    async def add(self, piece: bytes) -> None:
        """Wait for room, and put a piece in."""
        if not self._closed:
            await self._pieces.put(piece)

    async def end(self) -> None:
        """No more pieces."""
        if not self._closed:
            await self._pieces.put(None)

    def abandon(self) -> None:
        """The other side reads no more: what still comes is dropped."""
        self._closed = True
        while not self._pieces.empty():
            self._pieces.get_nowait()

    async def read(self) -> AsyncIterator[bytes]:
        """The pieces in order."""
        while (piece := await self._pieces.get()) is not None:
            yield piece


async def forward(
    handler: web.RequestHandler,
    session: aiohttp.ClientSession,
    url: str,
    *,
    headers: CIMultiDict[str],
    body: Body | None,
    drop: frozenset[str] = frozenset(),
    add: Mapping[str, str] | None = None,
) -> None:
    """Send the handler's request to `url`, and stream the answer back without the headers in `drop`.

    Raises `tornado.web.HTTPError` 502 when the other side does not answer, or not by HTTP.
    """
    try:
        async with session.request(
            str(handler.request.method),
            URL(url, encoded=True),
            headers=headers,
            data=body.read() if body is not None else None,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        ) as answer:
            if answer.status < 200:
                # No answer to a request without `Upgrade`; the proxy in front would wait for another one.
                raise web.HTTPError(502, _NOT_HTTP)
            handler.set_status(answer.status, answer.reason)
            for name in ("Content-Type", "Date", "Server"):
                handler.clear_header(name)
            for name, value in passed_on(answer.headers, without=drop).items():
                # The same bytes again: aiohttp reads headers as UTF-8, tornado writes ISO-8859-1.
                handler.add_header(name, value.encode(errors="surrogateescape").decode("latin-1"))
            for name, value in (add or {}).items():
                handler.set_header(name, value)
            length = answer.headers.get("Content-Length")
            if length is not None:
                handler.set_header("Content-Length", length)
            async for piece in answer.content.iter_chunked(PIECE):
                handler.write(piece)
                await handler.flush()
    except (aiohttp.ClientError, ValueError) as error:  # ValueError: a header that tornado does not write
        if handler._headers_written:
            # Too late for another status: close, so that the browser sees a broken answer and not a short one.
            connection = handler.request.connection
            if connection is not None and hasattr(connection, "close"):
                connection.close()
            return
        away = isinstance(error, aiohttp.ClientConnectionError)
        raise web.HTTPError(502, _AWAY if away else _NOT_HTTP) from error
    finally:
        if body is not None:
            body.abandon()


async def tunnel(handler: web.RequestHandler, url: str, *, headers: CIMultiDict[str]) -> None:
    """Join the handler's WebSocket to the one at `url`, until either side ends it.

    Neither messages nor their compression are looked into: a message that is unpacked here may be a thousand times
    larger than what was sent. Raises `tornado.web.HTTPError` with the status that the other side refused with, or 502.
    """
    address = URL(url, encoded=True)
    try:
        upstream = await TCPClient().connect(str(address.host), address.port or 80, timeout=PATIENCE)
    except (OSError, TimeoutError, iostream.StreamClosedError) as error:
        raise web.HTTPError(502, _AWAY) from error
    browser: iostream.IOStream | None = None
    try:
        said = await _open(upstream, address, headers)
        browser = handler.detach()
        for stream in (browser, upstream):
            stream.set_nodelay(True)
            # Who is gone without a word is noticed by the system; browsers and Dask send pings of their own.
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await browser.write(said)
        both = [asyncio.ensure_future(_pump(*way)) for way in ((browser, upstream), (upstream, browser))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in both:
                pump.cancel()
            await asyncio.gather(*both, return_exceptions=True)
    except iostream.StreamClosedError:
        return
    finally:
        upstream.close()
        if browser is not None:
            browser.close()


async def _open(upstream: iostream.IOStream, address: URL, headers: CIMultiDict[str]) -> bytes:
    """Ask for the WebSocket; the head of the answer for the browser. Raises `HTTPError` when it is refused."""
    own = {"Host": address.authority, "Connection": "Upgrade", "Upgrade": "websocket"}
    lines = [
        f"GET {address.raw_path_qs} HTTP/1.1",
        *(f"{k}: {v}" for k, v in [*own.items(), *headers.items()]),
    ]
    try:
        async with asyncio.timeout(PATIENCE):
            await upstream.write(_head(lines))
            said = await upstream.read_until(b"\r\n\r\n", max_bytes=PIECE)
        first, _, rest = said.decode("latin-1").partition("\r\n")
        status = httputil.parse_response_start_line(first).code
        answered = httputil.HTTPHeaders.parse(rest)
    except (TimeoutError, iostream.StreamClosedError) as error:
        raise web.HTTPError(502, _AWAY) from error
    except (httputil.HTTPInputError, iostream.UnsatisfiableReadError) as error:
        raise web.HTTPError(502, _NOT_HTTP) from error
    if status != 101:
        raise web.HTTPError(status if 400 <= status < 600 else 502)
    kept = [f"{name}: {answered[name]}" for name in ANSWERED if name in answered]
    return _head(["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket", *kept])


def _head(lines: list[str]) -> bytes:
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")


async def _pump(source: iostream.IOStream, sink: iostream.IOStream) -> None:
    """Pass on what comes, until either is closed; a piece is read when the one before it was taken."""
    try:
        while True:
            await sink.write(await source.read_bytes(PIECE, partial=True))
    except iostream.StreamClosedError:
        return
