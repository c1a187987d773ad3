"""What the kernel says of a port's sockets, and the end of connections: real sockets, the real kernel."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import time
from collections.abc import Iterator

import pytest

from tidehub.system import connections
from tidehub.system.connections import ESTABLISHED, Table, end_of, refusal

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root ends connections")


@pytest.fixture
def table() -> Iterator[Table]:
    with contextlib.closing(Table()) as one:
        yield one


@contextlib.contextmanager
def connected(address: str = "127.0.0.1") -> Iterator[tuple[socket.socket, socket.socket, int]]:
    """A client, the accepted socket, and the port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family, dualstack_ipv6=address == "::") as door:
        reached = {"::": "127.0.0.1"}.get(address, address)
        with socket.create_connection((reached, door.getsockname()[1])) as client, door.accept()[0] as server:
            yield client, server, int(door.getsockname()[1])


def inode(one: socket.socket) -> int:
    return os.fstat(one.fileno()).st_ino


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::"])
def test_both_ends_of_a_ports_connections_are_found_and_nothing_else(table: Table, address: str) -> None:
    reached = {"::": "127.0.0.1"}.get(address, address)
    with connected(address) as (client, server, port), connected(address):
        found = {one.inode: one for one in table.connections([port])}
        assert set(found) == {inode(client), inode(server)}
        ours, theirs = found[inode(server)], found[inode(client)]
        assert (ours.here, ours.peer) == (theirs.peer, theirs.here)
        assert ours.here == end_of(reached, port)
        assert ours.port == port
        assert {one.uid for one in found.values()} == {os.geteuid()}
        assert {one.state for one in found.values()} == {ESTABLISHED}


@pytest.mark.parametrize("others", [0, 1, 2, 7])
def test_the_filter_knows_any_number_of_ports(table: Table, others: int) -> None:
    with contextlib.ExitStack() as stack:
        wanted = [stack.enter_context(connected()) for _ in range(3)]
        ports = [port for *_, port in wanted]
        for first in range(3):
            asked = ports[first:] + [1] * others + ports[:first]
            found = {one.inode for one in table.connections(asked)}
            assert found == {inode(one) for ends in wanted for one in ends[:2]}
        assert table.connections([1] * (others + 1)) == []


def test_what_is_not_accepted_yet_has_no_inode(table: Table) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            assert {one.inode for one in table.connections([port])} == {inode(client), 0}


@needs_root
@pytest.mark.root
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::"])
def test_one_connection_is_ended_at_both_ends_and_its_port_goes_on(table: Table, address: str) -> None:
    if why := refusal():
        pytest.skip(why)
    with connected(address) as (client, server, port), connected(address) as (other, _, _):
        [ours] = [one for one in table.connections([port]) if one.inode == inode(server)]
        table.end(ours)
        with pytest.raises(ConnectionError):
            client.recv(1)
        with pytest.raises(ConnectionError):
            server.recv(1)
        assert table.connections([port]) == []
        # What listens would be found in its place, were it not for the cookie.
        with pytest.raises(OSError) as ended:
            table.end(ours)
        assert ended.value.errno in (errno.ENOENT, errno.ESTALE)
        assert len(table.listening(port)) == 1
        other.settimeout(0.01)
        with pytest.raises(TimeoutError):
            other.recv(1)


def test_who_may_not_end_connections_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "not permitted")

    monkeypatch.setattr(Table, "end", refuse)
    assert refusal.__wrapped__() == "not permitted"
    monkeypatch.setattr(Table, "end", lambda *_: None)
    assert "left a connection open" in refusal.__wrapped__()


def test_a_kernel_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPROTONOSUPPORT, "no sock_diag")

    monkeypatch.setattr(connections.Kernel, "__init__", refuse)
    assert refusal.__wrapped__() == "no sock_diag"


def test_a_user_who_has_taken_all_ports_does_not_make_it_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EADDRNOTAVAIL, "no port")

    monkeypatch.setattr(socket, "create_connection", refuse)
    assert refusal.__wrapped__() == ""


def test_only_what_listens_on_the_port_is_listed(table: Table) -> None:
    with connected() as (_, _, port):
        [one] = table.listening(port)
        assert (one.address, one.uid) == (bytes([127, 0, 0, 1]), os.geteuid())
        with socket.create_server(("127.0.0.2", port)) as another:
            assert {one.address[-1] for one in table.listening(port)} == {1, 2}
            assert inode(another) in {one.inode for one in table.listening(port)}
        assert len(table.listening(port)) == 1


def test_thousands_of_connections_elsewhere_do_not_come_back_from_the_kernel(table: Table) -> None:
    count = min(2000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 3)
    with connected() as (_, _, port), contextlib.ExitStack() as stack:
        began = time.process_time()
        for _ in range(20):
            assert len(table.connections([port])) == 2
        alone = time.process_time() - began
        door = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128))
        for _ in range(count):
            stack.enter_context(socket.create_connection(door.getsockname()))
            stack.enter_context(door.accept()[0])
        assert len(table.connections([door.getsockname()[1]])) == 2 * count
        began = time.process_time()
        for _ in range(20):
            assert len(table.connections([port])) == 2
            assert len(table.listening(port)) == 1
        # Reading /proc/net/tcp takes 20 ms each time here; what the kernel skips, a tenth of a millisecond.
        assert time.process_time() - began < alone + 20 * 0.005
