"""Has dask-gateway's server accept on the socket that the supervisor gave."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tidehub.listening import inherited


def listen_on_inherited() -> None:
    """Call before the server starts; does nothing where no socket was given.

    dask-gateway-server 2026.3 (app.py, `setup`) can only listen by itself, with `web.TCPSite(runner, host, port)`.
    """
    found = inherited("gateway")
    if found is None:
        return
    held = found
    address = held.getsockname()[:2]

    class InheritingSite(web.SockSite):
        def __init__(self, runner: Any, host: str, port: int, **more: Any) -> None:
            if (host, port) != address:
                raise ValueError(f"the gateway was given a socket on {address}, not on {(host, port)}")
            super().__init__(runner, held, **more)

    web.TCPSite = InheritingSite  # type: ignore[misc, assignment]
