from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_unix_socket
from tornado.web import Application, RequestHandler

from tidehub.local.hub.http_unix import UnixSocketHTTPClient, socket_url


class Echo(RequestHandler):
    def get(self, rest: str) -> None:
        self.write({"path": self.request.path, "query": self.request.query, "host": self.request.host})

    def post(self, rest: str) -> None:
        self.set_status(418)


@pytest.fixture
def short_dir() -> Iterator[Path]:
    # a socket path holds 107 bytes: pytest's own directories are too long
    with tempfile.TemporaryDirectory(prefix="th-", dir="/tmp") as name:
        path = Path(name)
        lower = path.parent / path.name.lower()
        path.rename(lower)
        yield lower
        lower.rename(path)


async def test_requests_reach_a_server_on_a_socket_with_a_colon_in_its_name(short_dir: Path) -> None:
    path = short_dir / "nb.sock:80"
    server = HTTPServer(Application([("/(.*)", Echo)]))
    server.add_socket(bind_unix_socket(str(path)))
    client = UnixSocketHTTPClient(force_instance=True)
    try:
        response = await client.fetch(socket_url(str(path), "/user/alice/api?x=1"))
        assert b'"path": "/user/alice/api"' in response.body
        assert b'"query": "x=1"' in response.body
        assert b'"host": "localhost"' in response.body
        with pytest.raises(HTTPClientError, match="418"):
            await client.fetch(HTTPRequest(socket_url(str(path), "/"), method="POST", body=b"{}"))
    finally:
        client.close()
        server.stop()


async def test_nobody_listening_is_an_oserror(short_dir: Path) -> None:
    client = UnixSocketHTTPClient(force_instance=True)
    try:
        with pytest.raises(OSError):
            await client.fetch(socket_url(str(short_dir / "none"), "/"))
    finally:
        client.close()


def test_upper_case_is_refused_because_the_hub_would_lower_it() -> None:
    with pytest.raises(ValueError, match="lower case"):
        socket_url("/run/TideHub/x.sock")
