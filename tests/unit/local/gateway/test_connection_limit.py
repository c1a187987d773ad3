"""Which connections to the gateway's proxy are too many, and their end at a server that never closes any."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tidehub.listening import inside_name, passing
from tidehub.local import dask_parts
from tidehub.local.gateway import connection_limit
from tidehub.local.gateway.connection_limit import Limit, look, works
from tidehub.local.parts import Setting
from tidehub.local.supervisor.listeners import Listeners
from tidehub.system import peers
from tidehub.system.connections import CLOSE_WAIT, ESTABLISHED, Connection, Table, end_of, refusal

ALICE, BOB, SERVICE = 70_001, 70_002, 69_998
PORT = 8786
FIN_WAIT2 = 5
_numbers = itertools.count(30_000)


class Many:
    """Made-up connections to one port, with both ends as the kernel lists them."""

    def __init__(self, address: str = "127.0.0.1", port: int = PORT) -> None:
        self.here = end_of(address, port)
        self.found: list[Connection] = []

    def add(
        self,
        count: int,
        uid: int | None,
        peer: str = "127.0.0.1",
        *,
        state: int = ESTABLISHED,
        accepted: bool = True,
    ) -> list[Connection]:
        """So many of `uid`'s (None: nobody has the other end); the proxy's ends."""
        made = []
        for _ in range(count):
            number = next(_numbers)
            other = end_of(peer, number)
            key = number.to_bytes(48, "big")
            made.append(
                Connection(self.here, other, state, SERVICE, number if accepted else 0, socket.AF_INET, key)
            )
            if uid is not None:
                key = (number + (1 << 20)).to_bytes(48, "big")
                self.found.append(Connection(other, self.here, ESTABLISHED, uid, number, socket.AF_INET, key))
        self.found += made
        return made


def limit(most: int = 3, address: str = "127.0.0.1") -> Limit:
    return Limit([(address, PORT)], most)


def test_each_user_keeps_so_many_and_the_platform_all() -> None:
    many = Many()
    few = many.add(3, ALICE)
    flood = many.add(10, BOB)
    many.add(10, 0)
    many.add(10, SERVICE)
    many.add(10, None, "192.0.2.7")
    over = limit().beyond(many.found)
    assert len(over) == 7
    assert set(over) <= set(flood)
    assert not set(over) & set(few)


def test_the_oldest_stay_whatever_the_order_of_the_kernel() -> None:
    many, one = Many(), limit()
    first = many.add(2, BOB)
    assert one.beyond(many.found) == []
    late = many.add(10, BOB)
    over = one.beyond(many.found[::-1])
    assert len(over) == 9
    assert set(over) <= set(late)
    many.found = [found for found in many.found if found not in over]
    assert one.beyond(many.found[::-1]) == []
    many.found = [found for found in many.found if found is not first[0]]
    assert one.beyond(many.found) == [], "whoever closes one may open another"
    assert len(many.add(1, BOB)) == 1
    assert one.beyond(many.found) == []


def test_each_port_has_a_count_of_its_own() -> None:
    one = Limit([("127.0.0.1", PORT), ("127.0.0.1", PORT + 1)], 3)
    both, other = Many(), Many(port=PORT + 1)
    both.add(3, BOB)
    other.add(3, BOB)
    assert one.beyond(both.found + other.found) == []


def test_what_waits_to_be_accepted_counts_and_what_the_proxy_closed_does_not() -> None:
    many = Many()
    many.add(5, BOB, accepted=False, state=FIN_WAIT2)
    assert limit().beyond(many.found) == []
    waiting = many.add(5, BOB, accepted=False)
    assert set(limit().beyond(many.found)) <= set(waiting)
    assert len(limit().beyond(many.found)) == 2


def test_what_nobody_has_at_the_other_end_any_more_counts_together_from_the_second_look_on() -> None:
    many, one = Many(), limit()
    left = many.add(10, None, state=CLOSE_WAIT)
    assert one.beyond(many.found) == [], "its last words may not be read yet"
    many.add(10, None)
    over = one.beyond(many.found)
    assert len(over) == 7
    assert set(over) <= set(left)


def test_the_same_port_number_of_another_address_is_somebody_elses() -> None:
    many = Many("127.0.0.2")
    many.add(10, BOB)
    assert limit().beyond(many.found) == []
    for everywhere in ("0.0.0.0", "::"):
        assert len(limit(address=everywhere).beyond(many.found)) == 7


def test_thousands_take_a_fraction_of_a_second() -> None:
    many, one = Many(), limit(256)
    many.add(20_000, BOB)
    many.add(5_000, None)
    one.beyond(many.found)
    began = time.process_time()
    assert len(one.beyond(many.found)) == 24_488
    assert time.process_time() - began < 1.0


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root ends connections")


@pytest.fixture
def table() -> Iterator[Table]:
    if why := refusal():
        pytest.skip(why)
    with contextlib.closing(Table()) as one:
        yield one


@needs_root
@pytest.mark.root
def test_the_end_of_real_ones(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limit, "is_limited", lambda uid: uid == os.geteuid())
    with socket.create_server(("127.0.0.1", 0)) as door, contextlib.ExitStack() as stack:
        one = Limit([door.getsockname()], 3)
        clients, servers = [], []
        for _ in range(5):
            clients.append(stack.enter_context(socket.create_connection(door.getsockname())))
            servers.append(stack.enter_context(door.accept()[0]))
        clients += [stack.enter_context(socket.create_connection(door.getsockname())) for _ in range(5)]
        assert look(table, one) == 7
        assert look(table, one) == 0
        for client in clients:
            client.settimeout(0.01)
        alive = [client for client in clients if not is_ended(client)]
        assert len(alive) == 3
        clients.append(stack.enter_context(socket.create_connection(door.getsockname())))
        assert look(table, one) == 1
        assert is_ended(clients[-1])
        for client in alive:
            assert not is_ended(client)
            client.close()
        clients.append(stack.enter_context(socket.create_connection(door.getsockname())))
        assert look(table, one) == 0
        clients[-1].settimeout(0.01)
        assert not is_ended(clients[-1])


def is_ended(one: socket.socket) -> bool:
    try:
        return one.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


async def test_the_part_answers_only_while_it_looks(tmp_path: Path) -> None:
    """A process that is stopped does not, and one without sock_diag says what is missing."""
    place = tmp_path / "door"
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(place))
        door.listen()
        with subprocess.Popen(
            [sys.executable, "-m", connection_limit.__name__, "127.0.0.1:1", "localhost:2"],
            env={
                **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
                **passing({inside_name(connection_limit.NAME): door}),
            },
            pass_fds=[door.fileno()],
        ) as part:
            try:
                for _ in range(3):
                    assert (await works(place)()).ok
            finally:
                part.kill()
    with pytest.raises(OSError):
        await works(place)()


def test_the_part_gets_its_unix_socket_and_no_port() -> None:
    made = Listeners.__new__(Listeners)
    with socket.socket(socket.AF_UNIX) as door:
        made._sockets, made._inside = {}, {connection_limit.NAME: door}
        assert made.of_part(connection_limit.NAME) == {inside_name(connection_limit.NAME): door}


@pytest.mark.parametrize(
    ("engine", "uid", "why", "named"),
    [
        ("gateway", SERVICE, "Operation not supported", True),
        ("gateway", SERVICE, "", False),
        ("gateway", None, "Operation not permitted", False),
        ("none", SERVICE, "Operation not supported", False),
    ],
)
def test_the_gap_is_named_where_users_could_be_limited_and_the_kernel_cannot(
    engine: str, uid: int | None, why: str, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_parts, "refusal", lambda: why)
    site = SimpleNamespace(dask=SimpleNamespace(engine=engine))
    setting = SimpleNamespace(site=site, service=SimpleNamespace(uid=uid, gid=uid))
    gaps = dask_parts.unlimited_connections(cast("Setting", setting))
    assert [why in gap for gap in gaps] == [True] * named


def test_the_users_of_the_limit_are_those_of_all_ports() -> None:
    assert connection_limit.MOST == peers.MOST
