"""One user's programs hold thousands of connections to every port, connect as fast as they can, take all ephemeral
ports: others sign in, start servers and see their dashboards meanwhile, and afterwards all is as before."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import itertools
import json
import os
import resource
import socket
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from real_platform import RealPlatform, running_platform
from real_user import User, login

from tidehub.checks.kernel import Kernel
from tidehub.local.addresses import HELD, OWN
from tidehub.local.gateway import connection_limit
from tidehub.local.isolation.users import services_uid
from tidehub.system.peers import MOST

pytestmark = [
    pytest.mark.real,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="users need a uid of their own"),
    pytest.mark.asyncio(loop_scope="module"),
]

FLOODER = 79_991
"""A uid of the range that users have."""
SLOWEST = 0.5
"""Seconds that 95 of 100 log-in pages may take at most."""

FEW = (10_000, 11_999)
"""Ephemeral ports, where all are to be taken: none that a connection of before still has."""
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_CLONE_NEWNET, _SIOCSIFFLAGS, _IFF_UP = 0x4000_0000, 0x8914, 1
"""linux/sched.h, linux/sockios.h, net/if.h"""

_FLOOD = """
import errno, json, resource, select, socket, sys
again, most, ports = sys.argv[1] == "again", int(sys.argv[2]), [int(word) for word in sys.argv[3:]]
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
poll, of, held, tried = select.epoll(), {}, dict.fromkeys(ports, 0), dict.fromkeys(ports, 0)
poll.register(sys.stdin, select.EPOLLIN | select.EPOLLHUP)
def begin(port):
    one = socket.socket()
    one.setblocking(False)
    if one.connect_ex(("127.0.0.1", port)) not in (0, errno.EINPROGRESS):
        return one.close()
    of[one.fileno()] = port, one
    held[port] += 1
    tried[port] += 1
    poll.register(one.fileno(), select.EPOLLRDHUP | select.EPOLLHUP)
said = False
while True:
    for port in ports:
        for _ in range(50):
            if held[port] < most and (again or tried[port] < most):
                begin(port)
    for number, events in poll.poll(0.001 if again else 0.01):
        if number == 0:
            print(json.dumps({port: [tried[port], held[port]] for port in ports}), flush=True)
            if not sys.stdin.readline():
                raise SystemExit
            continue
        port, one = of.pop(number)
        poll.unregister(number)
        one.close()
        held[port] -= 1
    if not said and all(tried[port] >= most for port in ports):
        said = True
        print("begun", flush=True)
"""

_LOWER = "import resource, sys; resource.prlimit(int(sys.argv[1]), resource.RLIMIT_NOFILE, (6000, 6000))"

_TAKE = """
import resource, socket, sys, time
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
first, last, count, which = (int(word) for word in sys.argv[1:])
wanted, held = set(range(first, last + 1)[which::count]), []
for turn in range(100):
    for port in list(wanted):
        one = socket.socket()
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            one.close()
        else:
            held.append(one)
            wanted.discard(port)
    if turn == 3:
        print(len(wanted), flush=True)
    time.sleep(0.3)
sys.stdin.read()
"""

_CLUSTER = """
import json
from dask_gateway import GatewayCluster
cluster = GatewayCluster()
cluster.scale(1)
client = cluster.get_client()
client.wait_for_workers(1)
print(json.dumps({"dashboard": cluster.dashboard_link}))
"""
_COMPUTE = """
def twice(x):
    return 2 * x
print(json.dumps({"sum": sum(client.gather(client.map(twice, range(50), pure=False)))}))
"""
_COMPUTED = {"sum": 2450}


@pytest.fixture(scope="module")
def own_network(platform: RealPlatform) -> Iterator[None]:
    """This thread and its programs have a loopback of their own: other tests keep their ports.

    After `platform`, which brings the software: nothing can be downloaded here.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(_CLONE_NEWNET) != 0:
            pytest.skip(f"no network namespace: {os.strerror(ctypes.get_errno())}")
        try:
            with socket.socket() as one:
                fcntl.ioctl(one, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
            yield
        finally:
            assert libc.setns(before, _CLONE_NEWNET) == 0
    finally:
        os.close(before)


@pytest.fixture(scope="module")
def flooded(own_network: None) -> Iterator[RealPlatform]:
    """A platform of its own: its parts may not have been restarted at the end."""
    with running_platform("flood") as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alice(flooded: RealPlatform) -> AsyncIterator[User]:
    async with login(flooded, "alice") as user:
        await user.start()
        yield user


@dataclass(frozen=True)
class Cluster:
    """One that runs, with a worker, and the kernel that is connected to it."""

    kernel: Kernel
    dashboard: str

    async def computes(self) -> None:
        assert await self.kernel.result(_COMPUTE) == _COMPUTED


@contextlib.asynccontextmanager
async def new_cluster(user: User) -> AsyncIterator[Cluster]:
    kernel = await user.kernel()
    try:
        yield Cluster(kernel, (await kernel.result(_CLUSTER))["dashboard"])
    finally:
        await kernel.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(alice: User) -> AsyncIterator[Cluster]:
    async with new_cluster(alice) as one:
        yield one


@contextlib.contextmanager
def as_flooder(program: str, *words: object) -> Iterator[subprocess.Popen[str]]:
    one = subprocess.Popen(
        ["/usr/bin/python3", "-c", program, *(str(word) for word in words)],
        user=FLOODER,
        group=FLOODER,
        extra_groups=[],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield one
    finally:
        one.kill()
        one.communicate()


def said(one: subprocess.Popen[str]) -> str:
    assert one.stdout is not None
    return one.stdout.readline().strip()


def tell(one: subprocess.Popen[str]) -> dict[int, list[int]]:
    """By port: how many connections it tried to open, and how many it has."""
    assert one.stdin is not None
    one.stdin.write("\n")
    one.stdin.flush()
    return {int(port): counts for port, counts in json.loads(said(one)).items()}


def ports_of(platform: RealPlatform) -> dict[str, int]:
    """The ports whose connections are counted."""
    found: dict[str, int] = json.loads(platform.places.ports.read_text())
    front = int(platform.address.rstrip("/").rpartition(":")[2])
    return {**{part: found[part] for part in (*HELD, *OWN)}, "front": front}


def descriptors(share: int, most: int = 4000) -> int:
    """So many connections that the flooder's own limit allows them on all ports."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return min(most, ((1 << 20) if hard == resource.RLIM_INFINITY else hard) // share - 50)


def pids(platform: RealPlatform) -> dict[str, Any]:
    return {part["name"]: part["pid"] for part in platform.status()["parts"]}


async def log_in_page_is_quick(user: User, times: int = 60) -> None:
    took = []
    for _ in range(times):
        begin = time.monotonic()
        assert (await user.open("hub/home")).status == 200
        took.append(time.monotonic() - begin)
    slow = sorted(took)[int(times * 0.95)]
    assert slow < SLOWEST, f"95 % of the pages took up to {slow:.2f} s"


async def test_one_users_thousands_of_connections_keep_nobody_waiting(
    flooded: RealPlatform, alice: User, cluster: Cluster
) -> None:
    before = pids(flooded)
    ports = ports_of(flooded)
    async with login(flooded, "bob") as bob:
        with as_flooder(_FLOOD, "once", descriptors(len(ports)), *ports.values()) as flooder:
            assert await asyncio.to_thread(said, flooder) == "begun"
            await log_in_page_is_quick(alice)
            counts = await asyncio.to_thread(tell, flooder)
            for part, port in ports.items():
                tried, held = counts[port]
                assert tried > 10 * MOST, (part, counts)
                assert held <= MOST, (part, counts)
            async with login(flooded, "olga") as olga:
                await log_in_page_is_quick(olga)
            # It asks the hub at its port, as all users' programs do.
            await bob.start()
            assert (await bob.run("print(6 * 7)")).stdout == "42\n"
            assert (await alice.open("services/dask-gateway/api/health")).status == 200
            assert (await alice.open(cluster.dashboard)).status == 200
            await cluster.computes()
            async with new_cluster(bob) as another:
                await another.computes()
        assert (await bob.run("print(6 * 7)")).stdout == "42\n"
    assert pids(flooded) == before


async def test_whoever_connects_again_at_once_keeps_nobody_waiting(
    flooded: RealPlatform, alice: User, cluster: Cluster
) -> None:
    before = pids(flooded)
    ports = ports_of(flooded)
    with as_flooder(_FLOOD, "again", 2 * MOST, *ports.values()) as flooder:
        assert await asyncio.to_thread(said, flooder) == "begun"
        await log_in_page_is_quick(alice)
        assert (await alice.open(cluster.dashboard)).status == 200
        await cluster.computes()
        counts = await asyncio.to_thread(tell, flooder)
        assert all(tried > 5 * MOST for tried, _ in counts.values()), counts
    assert pids(flooded) == before
    for part in ("proxy", connection_limit.NAME):
        log = (flooded.places.logs / f"{part}.log").read_text()
        assert f"uid {FLOODER} has {MOST} connections" in log


async def test_more_connections_than_the_scheduler_proxy_has_descriptors_end_nobodys_cluster(
    flooded: RealPlatform, cluster: Cluster
) -> None:
    """It ends itself when it cannot accept one: all of them come within a second or two."""
    before = pids(flooded)
    # As on a machine with a low hard limit; the proxy's own user may lower it, whatever this container allows root.
    subprocess.run(
        ["/usr/bin/python3", "-c", _LOWER, str(before["gateway-proxy"])],
        user=services_uid(),
        group=services_uid(),
        extra_groups=[],
        cwd="/",
        check=True,
    )
    ports = [port for part, port in ports_of(flooded).items() if part in OWN]
    each = descriptors(len(ports), most=9_900)
    with contextlib.ExitStack() as stack:
        flooders = [stack.enter_context(as_flooder(_FLOOD, "again", each, *ports)) for _ in range(2)]
        for one in flooders:
            assert await asyncio.to_thread(said, one) == "begun"
        for _ in range(3):
            await cluster.computes()
        counts = [await asyncio.to_thread(tell, one) for one in flooders]
        assert all(tried >= each for found in counts for tried, _ in found.values()), counts
        assert pids(flooded) == before
    await cluster.computes()
    assert pids(flooded) == before


async def test_the_limit_costs_nothing_while_nobody_floods(flooded: RealPlatform, cluster: Cluster) -> None:
    pid = pids(flooded)[connection_limit.NAME]
    before, seconds = ticks(pid), 4.0
    await asyncio.sleep(seconds)
    assert (ticks(pid) - before) / os.sysconf("SC_CLK_TCK") < 0.03 * seconds


def ticks(pid: int) -> int:
    """The processor time of a process (proc_pid_stat(5): utime, stime)."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(words[11]) + int(words[12])


class FromElsewhere:
    """Connections to the front from ports that are not ephemeral, as those of another machine would be."""

    def __init__(self, platform: RealPlatform) -> None:
        self.target = ("127.0.0.1", ports_of(platform)["front"])
        self.ports = itertools.count(20_001)

    def connect(self) -> socket.socket:
        for port in self.ports:
            one = socket.socket()
            one.settimeout(20)
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                one.close()
                continue
            one.connect(self.target)
            return one
        raise AssertionError("no port")

    def status(self, path: str) -> int:
        with self.connect() as one:
            one.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            return int(one.recv(100).split()[1])


async def test_whoever_takes_all_ephemeral_ports_does_not_cut_the_parts_from_each_other(
    flooded: RealPlatform,
) -> None:
    before = pids(flooded)
    elsewhere = FromElsewhere(flooded)
    (first, last), programs = FEW, 2
    with contextlib.ExitStack() as stack:
        stack.callback(_RANGE.write_text, _RANGE.read_text())
        _RANGE.write_text(f"{first} {last}")
        takers = [
            stack.enter_context(as_flooder(_TAKE, first, last, programs, which)) for which in range(programs)
        ]
        left = [int(await asyncio.to_thread(said, one)) for one in takers]
        assert sum(left) < (last - first) / 20, f"{left} ports were not taken"
        # More requests at once, each with a connection of its own behind, than there are ports left.
        waiting = [stack.enter_context(elsewhere.connect()) for _ in range(sum(left) + 100)]
        for one in waiting:
            one.sendall(b"POST /hub/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx")
        for path in (
            "/hub/login",
            "/hub/api",
            "/services/identity/health",
            "/services/dask-gateway/api/health",
        ):
            for _ in range(5):
                assert await asyncio.to_thread(elsewhere.status, path) == 200, path
        for one in waiting:
            one.setblocking(False)
            with pytest.raises(BlockingIOError):  # an answer would be a refusal
                one.recv(100)
        assert pids(flooded) == before
    assert pids(flooded) == before
    status = await asyncio.to_thread(flooded.status)
    assert status["healthy"]
