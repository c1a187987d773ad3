"""What a hostile dashboard or visitor may cost the gate.

On real sockets; hub and gateway are one small server that says who asks and whose the cluster is.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from tornado import httpserver, iostream, web, websocket
from tornado.testing import bind_unused_port

from tidehub.gateway.dashboards import gate as gate_module
from tidehub.gateway.dashboards.gate import Gate, GateSettings
from tidehub.gateway.dashboards.serving import GateServer, server, session

PREFIX = "/services/dask-gateway"
DASHBOARD = f"{PREFIX}/clusters/ns.hers"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Extensions": "permessage-deflate",
}
ZEROS = 32 << 20
ANSWERS = {
    "long": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 20000 + b"\r\n\r\n",
    "no-http": b"\x00\x01nonsense\r\n\r\n",
    "switched": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "control": b"HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 0\r\n\r\n",
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nzz",
}


class Around:
    """The gate's port, and the paths that were passed on to the gateway or a dashboard."""

    def __init__(self) -> None:
        self.port = 0
        self.passed: list[str] = []
        self.told: web.HTTPError | None = None
        """What the way to the gateway answers instead of it."""
        self.serving: GateServer
        self.gate: Gate

    async def ask(
        self, path: str, more: dict[str, str] | None = None
    ) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
        """The first line of the answer to a request of ann's, as raw as it is written here; "" when it is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        headers = {"Host": "x", "Authorization": "token ann", **(more or {})}
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        writer.write("\r\n".join(lines).encode())
        return (await asyncio.wait_for(reader.readline(), 20)).strip(), reader, writer


@pytest.fixture
async def around() -> AsyncIterator[Around]:
    async with _around() as found:
        yield found


@asynccontextmanager
async def _around() -> AsyncIterator[Around]:
    found = Around()

    class User(web.RequestHandler):
        def get(self) -> None:
            scopes = ["access:services", "access:services!service=dask-gateway"]
            self.finish({"kind": "user", "name": "ann", "admin": False, "scopes": scopes})

    class Whose(web.RequestHandler):
        def get(self) -> None:
            if found.told is not None:
                raise found.told
            self.finish({"owner": "ann", "status": "RUNNING", "dashboard": f"http://127.0.0.1:{behind}"})

    class Raw(web.RequestHandler):
        async def get(self, name: str) -> None:
            stream = self.detach()
            await stream.write(ANSWERS[name])
            stream.close()

    class Endless(web.RequestHandler):
        async def get(self) -> None:
            with suppress(iostream.StreamClosedError):
                while True:
                    self.write(b"x" * 65536)
                    await self.flush()

    class Zeros(websocket.WebSocketHandler):
        def get_compression_options(self) -> dict[str, Any]:
            return {}

        async def open(self) -> None:
            await self.write_message(b"\0" * ZEROS, binary=True)

    class Else(web.RequestHandler):
        def prepare(self) -> None:
            found.passed.append(str(self.request.uri))
            self.finish("passed")

    listening, behind = bind_unused_port()
    others = httpserver.HTTPServer(
        web.Application(
            [
                (r"/hub/api/user", User),
                (r"/api/tidehub/v1/gate/clusters/.*", Whose),
                (r"/raw/(.*)", Raw),
                (r"/endless", Endless),
                (r"/zeros", Zeros),
                (r".*", Else),
            ]
        )
    )
    others.add_socket(listening)
    settings = GateSettings(
        site_name="x",
        contact=None,
        prefix=PREFIX,
        base_path="/",
        gateway_url=f"http://127.0.0.1:{behind}",
        hub_api_url=f"http://127.0.0.1:{behind}/hub/api",
        service_name="dask-gateway",
        service_token="t",
        key_secret="k",
        cookie_secret="00" * 32,
    )
    async with AsyncExitStack() as stack:
        three = [await stack.enter_async_context(session(aiohttp.TCPConnector())) for _ in range(3)]
        found.gate = Gate(settings, *three)
        found.serving = server(found.gate, 60.0)
        socket, found.port = bind_unused_port()
        found.serving.add_socket(socket)
        yield found
        found.serving.stop()
        others.stop()
        for one in (found.serving, others):
            await asyncio.wait([asyncio.ensure_future(one.close_all_connections())], timeout=1)


@pytest.mark.parametrize(
    "path",
    [
        "/%63lusters/ns.hers/status",
        "/api/../clusters/ns.hers/status",
        "/api/%2e%2e/clusters/ns.hers/status",
        "/api//../clusters/ns.hers/status",
        "//clusters/ns.hers/status",
        "/./clusters/ns.hers/status",
        "/clusters%2fns.hers/status",
    ],
)
async def test_the_gateways_proxy_is_asked_for_its_interface_alone(around: Around, path: str) -> None:
    """It decodes and resolves paths, and leads `/clusters/` to everybody's dashboards."""
    line, _, _ = await around.ask(PREFIX + path)
    assert line == b"HTTP/1.1 404 Not Found" and not around.passed


@pytest.mark.parametrize("path", ["/api/version", "/api/v1/clusters/", "/api/v1/clusters/ns.hers?wait"])
async def test_the_interface_is_passed_on(around: Around, path: str) -> None:
    line, _, _ = await around.ask(PREFIX + path)
    assert line == b"HTTP/1.1 200 OK" and around.passed == [path]


async def test_packed_messages_are_not_unpacked(around: Around) -> None:
    line, reader, writer = await around.ask(f"{DASHBOARD}/zeros", UPGRADE)
    assert line == b"HTTP/1.1 101 Switching Protocols"
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"sec-websocket-extensions: permessage-deflate" in head.lower()
    first, length = await reader.readexactly(2)
    assert first & 0x40, "compressed as the dashboard sent it"
    assert length == 126 and struct.unpack("!H", await reader.readexactly(2))[0] < ZEROS // 500
    writer.close()


@pytest.mark.parametrize("name", list(ANSWERS))
async def test_what_is_no_http_is_502_and_no_traceback(
    around: Around, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    for more in ({}, UPGRADE if name == "no-http" else {}):
        line, _, _ = await around.ask(f"{DASHBOARD}/raw/{name}?token=secret", more)
        assert line == b"HTTP/1.1 502 Bad Gateway"
    assert not [one for one in caplog.records if one.exc_info or "secret" in one.getMessage()]


async def test_a_reader_who_goes_away_is_no_error(around: Around, caplog: pytest.LogCaptureFixture) -> None:
    line, _, writer = await around.ask(f"{DASHBOARD}/endless")
    assert line == b"HTTP/1.1 200 OK"
    (connection,) = around.serving._connections
    writer.transport.abort()
    async with asyncio.timeout(20):
        while connection in around.serving._connections:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    said = [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert not said, said


async def test_one_user_has_so_much_open_at_once(around: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "MOST_OPEN", 2)
    _, _, first = await around.ask(f"{DASHBOARD}/zeros", UPGRADE)
    line, _, _ = await around.ask(f"{DASHBOARD}/endless")
    assert line == b"HTTP/1.1 200 OK"
    line, _, _ = await around.ask(f"{DASHBOARD}/page")
    assert line.startswith(b"HTTP/1.1 429")
    first.transport.abort()
    async with asyncio.timeout(20):
        while (await around.ask(f"{DASHBOARD}/page"))[0] != b"HTTP/1.1 200 OK":
            await asyncio.sleep(0.01)


async def test_one_address_holds_half_of_the_connections(around: Around) -> None:
    around.serving.most = 4
    held = [await around.ask(f"{DASHBOARD}/zeros", UPGRADE) for _ in range(2)]
    assert all(line.startswith(b"HTTP/1.1 101") for line, _, _ in held), "WebSockets count"
    with pytest.raises(ConnectionError):
        if not (await around.ask(f"{PREFIX}/health"))[0]:
            raise ConnectionResetError
    for _, _, writer in held:
        writer.transport.abort()
    async with asyncio.timeout(20):
        while not await _answers(around):
            await asyncio.sleep(0.01)


async def _answers(around: Around) -> bool:
    try:
        return (await around.ask(f"{PREFIX}/health"))[0] == b"HTTP/1.1 200 OK"
    except ConnectionError:
        return False


@pytest.mark.parametrize("status", [404, 502, 503])
async def test_an_open_dashboard_outlives_a_restart_of_the_gateway(around: Around, status: int) -> None:
    """The proxy on the way answers for it meanwhile: Traefik by 404 where a service has no pod."""
    around.gate.settings = replace(around.gate.settings, cache=0.0)
    assert (await around.ask(f"{DASHBOARD}/page"))[0] == b"HTTP/1.1 200 OK"
    around.told = web.HTTPError(status)
    assert (await around.ask(f"{DASHBOARD}/page"))[0] == b"HTTP/1.1 200 OK"
    assert (await around.ask(f"{PREFIX}/clusters/ns.unknown/page"))[0].startswith(b"HTTP/1.1 503")
