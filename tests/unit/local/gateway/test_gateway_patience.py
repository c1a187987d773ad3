"""dask-gateway's server gives up on clients that say nothing, and on those that do not finish a request's headers."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from dask_gateway_server import app as upstream

from tidehub.local.gateway.server import serve_as_part

PATIENCE = 0.5


async def answer(request: web.Request) -> web.Response:
    await asyncio.sleep(3 * PATIENCE)
    return web.Response(text=await request.text())


async def test_half_sent_headers_are_cut_off_and_slow_requests_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert upstream.web is web, "what is changed here is what dask-gateway's server uses"
    for name in ("AppRunner", "TCPSite"):
        monkeypatch.setattr(web, name, getattr(web, name))
    serve_as_part(PATIENCE)
    application = web.Application()
    application.router.add_post("/", answer)
    # As `DaskGateway.setup` makes it.
    runner = upstream.web.AppRunner(application, handle_signals=False, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = upstream.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        [address] = runner.addresses
        silent, half, slow = [await asyncio.open_connection(*address) for _ in range(3)]
        half[1].write(b"POST / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        slow[1].write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")

        async def drip() -> None:
            while True:
                half[1].write(b"x")
                await asyncio.sleep(PATIENCE / 5)

        dripping = asyncio.ensure_future(drip())
        for reader, _ in (silent, half):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        dripping.cancel()
        slow[1].write(b"b")
        head = await asyncio.wait_for(slow[0].readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 200") and await slow[0].readexactly(2) == b"ab"
        # And once more, after an answer.
        assert await asyncio.wait_for(slow[0].read(), 10) == b""
        for _, writer in (silent, half, slow):
            writer.close()
    finally:
        await runner.cleanup()
