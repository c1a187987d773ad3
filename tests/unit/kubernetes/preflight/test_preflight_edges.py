"""The network edge over real HTTP on loopback, and its limits."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tidehub.kubernetes.preflight.edges import network as network_module
from tidehub.kubernetes.preflight.edges.network import Network, NoAnswer


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    """Answers a path of digits with so many bytes, and `/away` with a redirect."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/away":
                self.send_response(302)
                self.send_header("Location", "/3")
                self.end_headers()
                return
            body = b"x" * int(self.path.strip("/"))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


def _url(server: ThreadingHTTPServer, path: str) -> str:
    return f"http://127.0.0.1:{server.server_port}/{path}"


def test_an_answer_comes_with_the_server_s_time(server: ThreadingHTTPServer) -> None:
    reply = Network().get(_url(server, "5"))
    assert (reply.status, reply.body) == (200, b"xxxxx")
    assert reply.clock_offset is not None
    assert abs(reply.clock_offset) < 5


def test_redirects_are_followed_only_where_that_is_wanted(server: ThreadingHTTPServer) -> None:
    assert Network().get(_url(server, "away")).body == b"xxx"
    assert Network().get(_url(server, "away"), follow=False).status == 302


def test_an_answer_without_end_is_not_read(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_module, "LARGEST", 1000)
    with pytest.raises(NoAnswer, match="larger than"):
        Network().get(_url(server, "1001"))


def test_who_does_not_answer_is_named_without_the_query() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        port = silent.getsockname()[1]
        with pytest.raises(NoAnswer) as raised:
            Network(seconds=0.3).get(f"http://127.0.0.1:{port}/path?code=secret")
    assert str(raised.value) == f"127.0.0.1:{port} did not answer within 0 s"
    with pytest.raises(NoAnswer) as raised:
        Network(seconds=1).get(f"http://127.0.0.1:{port}/path?code=secret")
    assert str(raised.value) == f"127.0.0.1:{port} was not reached: the connection was refused"


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Network().addresses("127.0.0.1") == ("127.0.0.1",)
    assert Network(names={"hub.example.org": ("192.0.2.1",)}).addresses("hub.example.org") == ("192.0.2.1",)

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert Network().addresses("nobody.example.org") == ()

    def broken(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", broken)
    with pytest.raises(NoAnswer, match="the resolver has no answer about nobody"):
        Network().addresses("nobody.example.org")


def test_a_resolver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(30) and [])
    try:
        with pytest.raises(NoAnswer, match="the resolver did not answer about slow"):
            Network(seconds=0.2).addresses("slow.example.org")
    finally:
        release.set()
