"""A streaming reverse proxy for HTTP and WebSockets: nothing is buffered, whatever its size or length."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
from multidict import CIMultiDict
from tornado import httputil, web, websocket
from yarl import URL

HOP_BY_HOP = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"),
        *("te", "trailer", "transfer-encoding", "upgrade", "content-length", "host"),
    }
)
"""Headers that concern one connection only (RFC 9110, 7.6.1), and those that the client writes itself."""
WEBSOCKET_OWN = frozenset(
    f"sec-websocket-{name}" for name in ("key", "version", "extensions", "protocol", "accept")
)
PIECES = 8
"""How many pieces of a body may lie between the two sides."""
LARGEST_MESSAGE = 1 << 30
"""Bytes of one WebSocket message; a dashboard of a large cluster sends documents of many MiB."""


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

    Raises `tornado.web.HTTPError` 502 when the other side does not answer.
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
            handler.set_status(answer.status, answer.reason)
            for name in ("Content-Type", "Date", "Server"):
                handler.clear_header(name)
            for name, value in passed_on(answer.headers, without=drop).items():
                handler.add_header(name, value)
            for name, value in (add or {}).items():
                handler.set_header(name, value)
            length = answer.headers.get("Content-Length")
            if length is not None:
                handler.set_header("Content-Length", length)
            async for piece in answer.content.iter_any():
                handler.write(piece)
                await handler.flush()
    except aiohttp.ClientConnectionError as error:
        if handler._headers_written:
            # Too late for another status: close, so that the browser sees a broken answer and not a short one.
            connection = handler.request.connection
            if connection is not None and hasattr(connection, "close"):
                connection.close()
            return
        raise web.HTTPError(502, "Dask does not answer just now") from error
    finally:
        if body is not None:
            body.abandon()


class WebSocketBridge:
    """One WebSocket from a browser joined to one upstream."""

    def __init__(
        self, handler: websocket.WebSocketHandler, upstream: aiohttp.ClientWebSocketResponse
    ) -> None:
        self._handler = handler
        self._upstream = upstream
        self._pump: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        handler: websocket.WebSocketHandler,
        session: aiohttp.ClientSession,
        url: str,
        *,
        headers: CIMultiDict[str],
    ) -> WebSocketBridge:
        """Connect upstream with the subprotocols that the browser offers.

        Raises `tornado.web.HTTPError` with the status that upstream refused with, or 502.
        """
        offered = handler.request.headers.get("Sec-WebSocket-Protocol", "")
        try:
            upstream = await session.ws_connect(
                URL(url, encoded=True),
                protocols=[word.strip() for word in offered.split(",") if word.strip()],
                headers=headers,
                max_msg_size=LARGEST_MESSAGE,
                compress=15,
                autoping=True,
            )
        except aiohttp.WSServerHandshakeError as error:
            raise web.HTTPError(error.status if 400 <= error.status < 600 else 502) from error
        except aiohttp.ClientError as error:
            raise web.HTTPError(502, "Dask does not answer just now") from error
        return cls(handler, upstream)

    @property
    def protocol(self) -> str | None:
        """The subprotocol that upstream chose."""
        return self._upstream.protocol

    def start(self) -> None:
        """Begin to pass upstream's messages to the browser."""
        self._pump = asyncio.create_task(self._to_browser())

    async def send(self, message: str | bytes) -> None:
        """Pass a message of the browser upstream."""
        try:
            if isinstance(message, bytes):
                await self._upstream.send_bytes(message)
            else:
                await self._upstream.send_str(message)
        except (ConnectionError, aiohttp.ClientError):
            self._handler.close(1011)

    async def close(self, code: int | None = None) -> None:
        """The browser is gone: close upstream."""
        await self._upstream.close(
            code=code if code and 1000 <= code < 5000 and code not in (1005, 1006) else 1000
        )
        if self._pump is not None and self._pump is not asyncio.current_task():
            self._pump.cancel()

    async def _to_browser(self) -> None:
        try:
            async for message in self._upstream:
                if message.type is aiohttp.WSMsgType.TEXT:
                    await self._handler.write_message(message.data)
                elif message.type is aiohttp.WSMsgType.BINARY:
                    await self._handler.write_message(message.data, binary=True)
        except websocket.WebSocketClosedError:
            await self._upstream.close()
            return
        code: Any = self._upstream.close_code
        self._handler.close(code if code in range(1000, 5000) and code not in (1005, 1006) else 1011)
