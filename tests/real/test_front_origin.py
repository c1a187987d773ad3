"""Users' servers have one origin with the hub: what they may tell a browser about all of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from front_parts import client, open_door
from supervisor_dummies import free_port

from tidehub.local.front.proxy import FrontDoor
from tidehub.local.places import Places

pytestmark = pytest.mark.real

_SAID = {
    "service-worker-allowed": "/",
    "clear-site-data": '"cookies"',
    "strict-transport-security": "max-age=31536000; includeSubDomains",
    "nel": '{"report_to":"mine","max_age":86400,"failure_fraction":1}',
    "report-to": '{"group":"mine","max_age":86400,"endpoints":[{"url":"https://mallory.example"}]}',
    "x-frame-options": "DENY",
}
"""What the server says on every path."""


@pytest.fixture
async def server() -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        headers = "".join(f"{name}: {value}\r\n" for name, value in _SAID.items())
        writer.write(f"HTTP/1.1 200 OK\r\n{headers}Content-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


async def test_a_users_server_says_nothing_that_would_hold_for_the_whole_site(
    program: list[str], places: Places, server: str
) -> None:
    door = FrontDoor("127.0.0.1", free_port())
    async with open_door(door, program, places, server), client() as http:

        async def told(path: str) -> dict[str, str]:
            # As raw bytes: a client of good manners would resolve the dots itself.
            answer = await http.get(httpx.URL(door.local_url).copy_with(raw_path=path.encode()))
            return {name: value for name, value in answer.headers.items() if name in _SAID}

        for path, place in {
            "/user/mallory/worker.js": "/user/mallory/",
            "/user/mallory": "/user/mallory/",
            "/user/mallory/user/alice/worker.js?x=/hub/": "/user/mallory/",
            "/coast/user/mallory/gpu/worker.js": "/coast/user/mallory/",
            "/%75ser/mallory%2fworker.js": "/user/mallory/",
            "/hub/../user/mallory/worker.js": "/user/mallory/",
            "/user/m%C3%A4x/worker.js": "/user/m%C3%A4x/",
        }.items():
            assert await told(path) == {"service-worker-allowed": place, "x-frame-options": "DENY"}, path
        asks = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(f"GET /%75ser/mallory/ws HTTP/1.1\r\nHost: a\r\n{asks}\r\n".encode())
        refused = (await asyncio.wait_for(reader.read(), 10)).decode().lower()
        writer.close()
        assert refused.startswith("http/1.1 200") and [name for name in _SAID if name in refused] == [
            "x-frame-options"
        ], "a server that refuses a websocket"
        for path in ("/hub/home", "/hub/api?next=/user/mallory/", "/services/identity/user"):
            assert await told(path) == _SAID, path
