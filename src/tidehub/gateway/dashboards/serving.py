"""The gate as a server, with a bound on the connections that it holds, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import resource
from collections import Counter
from typing import Any

import aiohttp
from tornado import httpserver, iostream

from tidehub.gateway.dashboards.forwarding import PATIENCE, PIECE
from tidehub.gateway.dashboards.gate import Gate
from tidehub.gateway.dashboards.handlers import application

LAST_WORDS = 1.0
"""Seconds at the end for handlers whose connections were closed."""
MOST_CONNECTIONS = 2000
SPARE = 64
"""Open files that are left for all else."""


class GateServer(httpserver.HTTPServer):
    """Holds a bounded number of connections, of one address half of them; more are closed at once.

    A server without files left (tornado 6, `add_accept_handler`) asks for the next connection again and again, and
    writes to the log each time.
    """

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        super().initialize(*args, **kwargs)
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Each may need a second one, to what is behind.
        self.most = max(2, min(MOST_CONNECTIONS, (soft - SPARE) // 2))
        self._held: dict[iostream.IOStream, str] = {}

    def handle_stream(self, stream: iostream.IOStream, address: Any) -> None:
        """As tornado's; WebSockets count too, which it forgets."""
        self._held = {held: peer for held, peer in self._held.items() if not held.closed()}
        peer = str(address[0]) if address else ""
        if len(self._held) >= self.most or Counter(self._held.values())[peer] >= self.most // 2:
            stream.close()
            return
        self._held[stream] = peer
        super().handle_stream(stream, address)


def server(gate: Gate, idle: float) -> GateServer:
    """The gate's server. `idle`: seconds that a connection may be without a request, or take for its headers."""
    return GateServer(application(gate), max_body_size=1 << 40, xheaders=True, idle_connection_timeout=idle)


def session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    """What forwards with that connector."""
    # No deadline for the whole of a request: long polls and streams last. DummyCookieJar: users' cookies never mix.
    return aiohttp.ClientSession(
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE),
        connector=connector,
        read_bufsize=PIECE // 2,
    )


async def end(running: httpserver.HTTPServer) -> None:
    """Stop, before the event loop ends."""
    running.stop()
    # It breaks the connections at once and waits for their handlers, which may wait for a hub that is away.
    # Not `wait_for`: each of them takes one cancellation as its own, and the next is waited for without end.
    await asyncio.wait([asyncio.ensure_future(running.close_all_connections())], timeout=LAST_WORDS)
    logging.disable()  # What is left is cancelled with the loop, and is no error.
