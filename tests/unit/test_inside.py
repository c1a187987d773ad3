"""The way between the platform's parts: tornado's and aiohttp's clients take the Unix socket of the table."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from tidehub import inside
from tidehub.local.hub.http_unix import UnixSocketHTTPClient
from tidehub.local.isolation.users import DEFAULT_UIDS, proxy_uid, services_uid
from tidehub.local.places import Places
from tidehub.local.supervisor.listeners import Listeners

ADDRESS = "127.0.0.1:9"
"""The discard service's port: nobody listens there."""


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="i", dir="/tmp") as name:
        Path(name).chmod(0o711)
        yield Path(name)


class Hello(RequestHandler):
    def get(self) -> None:
        self.write("inside")


@asynccontextmanager
async def part(path: Path) -> AsyncIterator[None]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.setblocking(False)
        server = HTTPServer(Application([("/", Hello)]))
        server.add_socket(listener)
        yield
        server.stop()
        await server.close_all_connections()


def test_only_addresses_of_the_table_have_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in inside.passing({ADDRESS: Path("/run/x/hub")}).items():
        monkeypatch.setenv(name, value)
    assert inside.socket_of_url("http://127.0.0.1:9/hub/api?x") == "/run/x/hub"
    assert inside.socket_of_url("http://127.0.0.1:10/hub/api") is None
    assert inside.socket_of_url("http://127.0.0.1/hub/api") is None
    monkeypatch.delenv(inside.VARIABLE)
    assert inside.socket_of("127.0.0.1", 9) is None


def test_clients_go_to_the_socket_and_not_to_the_port(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(inside.VARIABLE, inside.passing({ADDRESS: short / "part"})[inside.VARIABLE])

    async def story() -> None:
        async with part(short / "part"):
            client = UnixSocketHTTPClient(force_instance=True)
            assert (await client.fetch(f"http://{ADDRESS}/")).body == b"inside"
            client.close()
            url = f"http://{ADDRESS}/"
            async with (
                aiohttp.ClientSession(connector=inside.connector_to(url)) as session,
                session.get(url) as answer,
            ):
                assert await answer.text() == "inside"

    asyncio.run(story())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives sockets to others")
def test_no_user_can_connect_and_the_platforms_own_can(short: Path) -> None:
    places = Places.of(short / "state").ensure()
    listeners = Listeners(places)
    listeners.open("hub", "127.0.0.1", 0)
    listeners.open_inside("hub", (proxy_uid(), services_uid()))
    assert sorted(listeners.of_part("hub")) == ["hub", "hub-inside"]
    program = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    found = {}
    for uid in (proxy_uid(), services_uid(), DEFAULT_UIDS[5], 1000):
        done = subprocess.run(
            ["/usr/bin/python3", "-c", program, str(places.inside_socket("hub"))],
            user=uid,
            group=uid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            text=True,
        )
        found[uid] = done.returncode == 0
        assert done.returncode == 0 or "PermissionError" in done.stderr
    assert found == {proxy_uid(): True, services_uid(): True, DEFAULT_UIDS[5]: False, 1000: False}
    listeners.leave(nothing_runs=True)
    places.remove_run()


def test_a_socket_that_a_killed_supervisor_left_is_replaced(short: Path) -> None:
    places = Places.of(short / "state").ensure(other_users=False)
    for _ in range(2):
        listeners = Listeners(places)
        listeners.open("hub", "127.0.0.1", 0)
        listeners.open_inside("hub", None)
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(str(places.inside_socket("hub")))
        assert places.inside_socket("hub").stat().st_mode & 0o777 == 0o600
    listeners.leave(nothing_runs=True)
    places.remove_run()
