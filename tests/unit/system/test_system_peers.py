"""Whose connection it is, and how many one user may have: real sockets, the real kernel."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from tidehub.local.isolation.users import DEFAULT_UIDS, proxy_uid, services_uid
from tidehub.system import peers
from tidehub.system.peers import Counted, Crowd, Kernel, LimitedListener, is_limited

LOOPBACK = [(socket.AF_INET, "127.0.0.1", "127.0.0.1"), (socket.AF_INET6, "::1", "::1")]
USER = 70_005
ESTABLISHED = 1
"""TCP_ESTABLISHED (net/tcp_states.h)"""


@contextlib.contextmanager
def listening(
    address: str = "127.0.0.1", kind: type[socket.socket] = socket.socket, backlog: int = 128
) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with kind(family, socket.SOCK_STREAM) as one:
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        one.bind((address, 0))
        one.listen(backlog)
        yield one


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Iterator[LimitedListener]:
    """A listener that allows three connections to whoever runs this test."""
    monkeypatch.setattr(peers, "is_limited", lambda uid: uid == os.geteuid())
    with listening(kind=LimitedListener) as one:
        assert isinstance(one, LimitedListener)
        one.setblocking(False)
        one.limit(Crowd(3))
        yield one


def connect(listener: socket.socket) -> socket.socket:
    return socket.create_connection(listener.getsockname()[:2], timeout=10)


def closed_by_other(one: socket.socket) -> bool:
    try:
        return one.recv(1) == b""
    except ConnectionResetError:
        return True


def is_refused(listener: socket.socket) -> bool:
    """Whether one more connection ends at once; a server may be so quick that connecting fails."""
    try:
        with connect(listener) as one:
            return closed_by_other(one)
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_kernel_names_the_owner_of_the_other_end(address: str) -> None:
    with listening(address) as one, connect(one) as client:
        server, peer = one.accept()
        with server:
            assert Kernel().owner(peer[:2], server.getsockname()[:2]) == os.geteuid()
            assert Kernel().owner(server.getsockname()[:2], client.getsockname()[:2]) == os.geteuid()


def test_ipv4_that_came_to_a_socket_of_both_kinds_is_found() -> None:
    with listening("::") as one, socket.create_connection(("127.0.0.1", one.getsockname()[1])):
        server, peer = one.accept()
        with server:
            assert peer[0] == "::ffff:127.0.0.1"
            assert Kernel().owner(peer[:2], server.getsockname()[:2]) == os.geteuid()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes another user's socket")
def test_it_is_the_uid_that_made_the_socket() -> None:
    program = (
        "import socket, sys; one = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); one.recv(1)"
    )
    with listening() as one:
        child = subprocess.Popen(
            ["/usr/bin/python3", "-c", program, str(one.getsockname()[1])],
            user=USER,
            group=USER,
            extra_groups=[],
            cwd="/",
        )
        server, peer = one.accept()
        with server:
            assert Kernel().owner(peer, server.getsockname()) == USER
        assert child.wait(20) == 0


def test_a_peer_elsewhere_is_nobody_of_this_machine_whatever_listens_on_its_port_here() -> None:
    with listening("0.0.0.0") as one:
        port = one.getsockname()[1]
        for peer in ("192.0.2.7", "127.0.0.1", "2001:db8::7"):
            here = "::1" if ":" in peer else "127.0.0.1"
            assert Kernel().owner((peer, port), (here, 443)) is None


def test_a_peer_that_has_gone_counts_for_nobody() -> None:
    with listening() as one:
        client = connect(one)
        server, peer = one.accept()
        client.close()
        with server:
            assert Kernel().owner(peer, server.getsockname()) is None


def test_users_are_limited_and_neither_the_system_nor_the_platforms_own_parts() -> None:
    assert set(peers.OWN) == {proxy_uid(), services_uid()}
    assert not any(is_limited(uid) for uid in (0, 33, 999, proxy_uid(), services_uid(), os.geteuid()))
    assert all(is_limited(uid) for uid in (DEFAULT_UIDS[0], DEFAULT_UIDS[-1], 65_534))


def test_each_user_has_a_number_of_connections_and_it_is_said_once_who_has_too_many() -> None:
    said: list[str] = []
    now = 0.0
    crowd = Crowd(2, say=said.append, clock=lambda: now)
    assert [crowd.enter(USER) for _ in range(4)] == [True, True, False, False]
    assert crowd.enter(USER + 1)
    assert len(said) == 1
    assert f"uid {USER} has 2 connections open" in said[0]
    crowd.leave(USER)
    assert crowd.enter(USER)
    now = peers.SAY_EVERY
    assert not crowd.enter(USER)
    assert len(said) == 2
    for _ in range(2):
        crowd.leave(USER)
    crowd.leave(USER + 1)
    assert crowd._counts == {}


def test_one_too_many_is_refused_and_a_closed_one_makes_room(limited: LimitedListener) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(limited)) for _ in range(5)]
        accepted = [stack.enter_context(limited.accept()[0]) for _ in range(3)]
        with pytest.raises(BlockingIOError):
            limited.accept()
        assert [closed_by_other(client) for client in clients[3:]] == [True, True]
        accepted[0].close()
        accepted[0].close()
        with connect(limited):
            stack.enter_context(limited.accept()[0])
        with connect(limited) as late:
            with pytest.raises(BlockingIOError):
                limited.accept()
            assert closed_by_other(late)


def test_a_connection_that_is_let_go_of_makes_room_too(limited: LimitedListener) -> None:
    for _ in range(10):
        with connect(limited) as client:
            # pytest turns the warning about it into an error.
            accepted = limited.accept()[0]
            descriptor = accepted.detach()
            del accepted
            os.close(descriptor)
            assert closed_by_other(client)


def test_after_many_refused_ones_others_of_the_event_loop_have_their_turn(
    limited: LimitedListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "ROUND", 4)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(limited)) for _ in range(3 + 6)]
        accepted = [stack.enter_context(limited.accept()[0]) for _ in range(3)]
        with pytest.raises(BlockingIOError):
            limited.accept()
        assert [closed_by_other(client) for client in clients[3:7]] == [True] * 4
        clients[7].settimeout(0.05)
        with pytest.raises(TimeoutError):
            clients[7].recv(1)
        assert len(accepted) == 3


class Hello(RequestHandler):
    def get(self) -> None:
        self.write("hello")


def test_tornado_serves_those_who_keep_within_it_and_again_after_the_others_have_left(
    limited: LimitedListener,
) -> None:
    async def story() -> None:
        server = HTTPServer(Application([("/", Hello)]))
        server.add_socket(limited)
        address = limited.getsockname()
        clients = [await asyncio.to_thread(connect, limited) for _ in range(3)]
        for _ in range(200):
            assert await asyncio.to_thread(is_refused, limited)
        for client in clients:
            client.shutdown(socket.SHUT_WR)
            assert await asyncio.to_thread(closed_by_other, client)
            client.close()
        for _ in range(10):
            answer = await AsyncHTTPClient().fetch(f"http://127.0.0.1:{address[1]}/")
            assert answer.body == b"hello"
        server.stop()
        await server.close_all_connections()

    asyncio.run(story())


def test_asyncio_serves_those_who_keep_within_it_and_again_after_the_others_have_left(
    limited: LimitedListener,
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(1))
        writer.close()

    async def story() -> None:
        server = await asyncio.start_server(answer, sock=limited)
        clients = [await asyncio.to_thread(connect, limited) for _ in range(3)]
        for _ in range(100):
            assert await asyncio.to_thread(is_refused, limited)
        for client in clients:
            client.shutdown(socket.SHUT_WR)
            assert await asyncio.to_thread(closed_by_other, client)
            client.close()
        for _ in range(10):
            reader, writer = await asyncio.open_connection(*limited.getsockname())
            writer.write(b"x")
            assert await reader.read(1) == b"x"
            writer.close()
        server.close()

    asyncio.run(story())


def test_the_program_answers_for_one_that_cannot_ask_the_kernel() -> None:
    command = [sys.executable, "-I", "-S", str(Path(peers.__file__))]
    with listening() as one, connect(one) as client:
        server, _ = one.accept()
        ends = f"{client.getsockname()[1]} 127.0.0.1 {one.getsockname()[1]}"
        with server:
            done = subprocess.run(
                command,
                input=f"1 127.0.0.1 {ends}\n2 192.0.2.7 {ends}\n",
                capture_output=True,
                text=True,
                timeout=20,
                check=True,
            )
    # This test's own user is the program's too, so nobody to count.
    assert done.stdout == f"1 system {os.geteuid()}\n2 -\n"


def test_a_counted_connection_leaves_once() -> None:
    left: list[int] = []
    one, other = socket.socketpair()
    with other:
        counted = Counted(fileno=one.detach())
        counted.counts_until_closed(lambda: left.append(1))
        counted.close()
        counted.close()
        del counted
    assert left == [1]


@pytest.mark.parametrize("lower", [1, 100])
async def test_a_server_that_gets_the_socket_does_not_shorten_its_queue(lower: int) -> None:
    """As asyncio does with what it is given; a user who connects as fast as they can would fill a short one."""
    with listening(kind=LimitedListener, backlog=1024) as one:
        one.setblocking(False)
        server = await asyncio.start_server(lambda reader, writer: writer.close(), sock=one, backlog=lower)
        assert waiting_in(one, 200) == 200
        server.close()


def waiting_in(listener: socket.socket, count: int) -> int:
    """How many of `count` connections are made without anybody accepting one."""
    with contextlib.ExitStack() as stack:
        tried = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in tried:
            one.setblocking(False)
            one.connect_ex(listener.getsockname()[:2])
        return sum(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED for one in tried)
