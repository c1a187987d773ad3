"""A user of the machine tries all the time to take the platform's ports: while parts are down, and after kill -9 of
the supervisor. Should it ever succeed (holder and supervisor both lost), the servers that knew the port are ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from real_platform import RealPlatform, running_platform
from real_user import User, eventually, login

from tidehub.checks.kernel import Kernel

pytestmark = [
    pytest.mark.real,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="users need a uid of their own"),
    pytest.mark.asyncio(loop_scope="module"),
]

THIEF = 79_990
"""A uid of the range that users have."""

_THIEF = """
import errno, socket, sys
ports, kept = [int(word) for word in sys.argv[1:]], []
print("begun", flush=True)
while ports:
    for port in list(ports):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
            one.listen()
        except OSError as error:
            one.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
        else:
            kept.append(one)
            ports.remove(port)
            print("stolen", port, flush=True)
kept[0].accept()
"""

_CLUSTER = """
import json, os
from dask_gateway import GatewayCluster
cluster = GatewayCluster()
cluster.scale(1)
client = cluster.get_client()
client.wait_for_workers(1, timeout=200)
print(json.dumps({"token": os.environ["JUPYTERHUB_API_TOKEN"], "dashboard": cluster.dashboard_link,
                  "sum": client.submit(sum, [1, 2]).result(), "pid": os.getpid()}))
"""

_ACTIVITY = """
import datetime, json, os, urllib.request
now = datetime.datetime.now(datetime.timezone.utc).isoformat()
request = urllib.request.Request(os.environ["JUPYTERHUB_ACTIVITY_URL"], method="POST",
    data=json.dumps({"last_activity": now}).encode(),
    headers={"Authorization": "token " + os.environ["JUPYTERHUB_API_TOKEN"]})
print(json.dumps({"status": urllib.request.urlopen(request, timeout=60).status}))
"""

_AGAIN = """
import json, time
from dask_gateway import GatewayCluster
until = time.monotonic() + 60
while True:
    try:
        total = client.submit(sum, [3, 4], pure=False).result(timeout=20)
        break
    except Exception:
        if time.monotonic() > until:
            raise
        time.sleep(0.2)
second = GatewayCluster()
print(json.dumps({"sum": total, "second": second.name}))
second.shutdown()
"""


@contextlib.contextmanager
def thief(*ports: int) -> Iterator[subprocess.Popen[str]]:
    """A user's process that tries to take `ports` as fast as it can."""
    one = subprocess.Popen(
        ["nice", "/usr/bin/python3", "-c", _THIEF, *(str(port) for port in ports)],
        user=THIEF,
        group=THIEF,
        extra_groups=[],
        cwd="/",
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert one.stdout is not None and one.stdout.readline() == "begun\n"
        yield one
    finally:
        one.kill()
        one.wait()


def said(one: subprocess.Popen[str]) -> str:
    """All that the thief said until its end."""
    assert one.poll() is None, "it tried until the end"
    one.kill()
    assert one.stdout is not None
    return one.stdout.read()


def ports_of(platform: RealPlatform) -> dict[str, int]:
    ports: dict[str, int] = json.loads(platform.places.ports.read_text())
    return {**ports, "front": int(platform.address.rstrip("/").rpartition(":")[2])}


def hub_of(platform: RealPlatform) -> str:
    return f"http://127.0.0.1:{ports_of(platform)['hub']}/hub/api"


class AtWork:
    """Alice with a kernel and a cluster."""

    def __init__(self, alice: User, kernel: Kernel, facts: dict[str, object]) -> None:
        self.alice, self.kernel, self.facts, self.platform = alice, kernel, facts, alice.platform

    async def still_works(self) -> None:
        """A new login, the same kernel, its reports to the hub, its cluster, a new cluster, the dashboard."""
        async with login(self.platform, "bob") as bob:
            assert (await bob.open("hub/home")).status == 200
        self.kernel.disconnect()
        self.kernel = await Kernel.connect(self.alice.browser, self.alice.base, self.kernel.ident)
        assert (await self.kernel.result("import json; print(json.dumps({'pid': os.getpid()}))")) == {
            "pid": self.facts["pid"]
        }
        assert await self.kernel.result(_ACTIVITY) == {"status": 200}
        assert (await self.kernel.result(_AGAIN))["sum"] == 7
        assert (await self.alice.open(str(self.facts["dashboard"]))).status == 200


@pytest.fixture(scope="module")
def platform() -> Iterator[RealPlatform]:
    with running_platform("ports") as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def work(platform: RealPlatform) -> AsyncIterator[AtWork]:
    async with login(platform, "alice") as alice:
        await alice.start()
        kernel = await alice.kernel()
        yield AtWork(alice, kernel, await kernel.result(_CLUSTER))
        # The last test's start ends the server.
        alice.journey.server_started = False


async def healthy(platform: RealPlatform) -> bool:
    return bool((await asyncio.to_thread(platform.status))["healthy"])


async def keep_down(platform: RealPlatform, part: str, seconds: float) -> None:
    """Kill it, and whatever is started in its place."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pid = (await asyncio.to_thread(platform.part, part))["pid"]
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


async def test_while_parts_are_down_nobody_gets_their_ports_and_what_connects_is_served_later(
    work: AtWork,
) -> None:
    platform = work.platform
    ports = ports_of(platform)
    with thief(*ports.values()) as one:
        for part in ("hub", "gateway", "dashboards", "identity", "proxy", "gateway-proxy"):
            waiting = None
            async with httpx.AsyncClient(timeout=90, trust_env=False) as client:
                if part in ("hub", "gateway"):
                    paths = {"hub": "hub/api", "gateway": "api/health"}
                    await keep_down(platform, part, 0.5)
                    url = f"http://127.0.0.1:{ports[part]}/{paths[part]}"
                    waiting = asyncio.create_task(client.get(url))
                await keep_down(platform, part, 3.0)
                await eventually(lambda: healthy(platform), within=90, saying=f"{part} is back")
                if waiting is not None and part == "gateway":
                    # It may have been accepted by a process that was killed; then it is an error, never a stranger.
                    with contextlib.suppress(httpx.HTTPError):
                        assert (await waiting).json() == {"status": "pass"}
                elif waiting is not None:
                    with contextlib.suppress(httpx.HTTPError):
                        assert "version" in (await waiting).json()
        await work.still_works()
        assert said(one) == ""


async def test_kill_9_of_the_supervisor_frees_no_port_and_the_next_up_takes_over(work: AtWork) -> None:
    platform = work.platform
    before, address = ports_of(platform), platform.address
    servers = [(each["id"], each["pid"]) for each in platform.status()["servers"]]
    with thief(*before.values()) as one:
        os.kill(int(platform.status()["pid"]), signal.SIGKILL)
        await eventually(
            lambda: asyncio.to_thread(lambda: platform.status()["state"] == "crashed"),
            within=20,
            saying="it is gone",
        )
        async with httpx.AsyncClient(timeout=120, trust_env=False) as client:
            waiting = asyncio.create_task(client.get(f"http://127.0.0.1:{before['hub']}/hub/api"))
            # Without the port that it was started with: it is reached where users know it.
            done = await asyncio.to_thread(platform.command, "up", "--demo-login", "--detach")
            assert done.returncode == 0, done.stdout + done.stderr
            assert "keeps port" in done.stdout + done.stderr
            assert "version" in (await waiting).json(), "it waited for the next hub"
        assert platform.status()["address"] == address
        assert ports_of(platform) == before
        assert [(each["id"], each["pid"]) for each in platform.status()["servers"]] == servers
        await work.still_works()
        assert said(one) == ""


async def test_servers_that_might_talk_to_a_stranger_are_ended_and_their_tokens_taken_back(
    work: AtWork,
) -> None:
    platform = work.platform
    assert platform.status()["healthy"]
    port = ports_of(platform)["hub"]
    headers = {"Authorization": f"token {work.facts['token']}"}
    async with httpx.AsyncClient(headers=headers, timeout=30, trust_env=False) as client:
        assert (await client.get(f"{hub_of(platform)}/users/alice")).status_code in (200, 403)
        assert (await client.get(f"{hub_of(platform)}/user")).json()["name"] == "alice"
        with thief(port) as one:
            for pid in (*holders(platform), int(platform.status()["pid"])):
                os.kill(pid, signal.SIGKILL)
            assert one.stdout is not None
            assert await asyncio.to_thread(one.stdout.readline) == f"stolen {port}\n"
            done = await asyncio.to_thread(
                platform.command, "up", *platform.arguments, "--detach", timeout=300
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert f"port {port} (hub) is taken" in done.stdout + done.stderr
            status = platform.status()
            assert status["servers"] == [] and status["clusters"] == [] and status["healthy"]
            assert ports_of(platform)["hub"] != port
            assert (await client.get(f"{hub_of(platform)}/user")).status_code == 403
    async with login(platform, "alice") as alice:
        await alice.start()
        assert (await alice.run("print(6 * 7)")).stdout == "42\n"


async def test_down_leaves_nothing_of_a_platform_that_was_killed_whole(work: AtWork) -> None:
    """Runs last: supervisor, parts, holder and users' programs get SIGKILL at once, as by an OOM killer gone mad."""
    platform = work.platform
    async with login(platform, "alice") as alice:
        await alice.start()
        alice.journey.server_started = False  # it is not stopped at the end of the block
    run, groups = platform.run, cgroups(platform)
    assert any("/users/" in str(group) for group in groups)
    for pid in {*holders(platform), *processes(groups)}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    await eventually(
        lambda: asyncio.to_thread(lambda: platform.status()["state"] == "crashed"),
        within=20,
        saying="it is gone",
    )
    assert cgroups(platform) and run.exists()
    done = await asyncio.to_thread(platform.down)
    assert done.returncode == 0, done.stderr
    assert platform.status()["state"] == "stopped"
    assert cgroups(platform) == [] and not run.exists()
    left = [
        path.name for path in platform.places.private.iterdir() if path.is_socket() or path.name == "reserve"
    ]
    assert left in ([], ["reserve"])
    mounts = Path("/proc/self/mounts").read_text()
    assert str(platform.state) not in mounts and str(run) not in mounts


def cgroups(platform: RealPlatform) -> list[Path]:
    """The platform's control groups, of either version."""
    name = f"tidehub-{platform.places.platform_id[:8]}"
    return [Path(place) for place, _, _ in os.walk("/sys/fs/cgroup") if name in place]


def processes(groups: list[Path]) -> set[int]:
    found = set()
    for group in groups:
        with contextlib.suppress(OSError):
            found.update(map(int, (group / "cgroup.procs").read_text().split()))
    return found


def holders(platform: RealPlatform) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(platform.places.holder).encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    assert found
    return found
