"""`kill -9` of each part under use: no notebook, no cluster and no file is lost, and all answers again soon."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from real_platform import RealPlatform
from real_user import User, eventually, login

from tidehub.checks.browser import Browser
from tidehub.checks.kernel import Kernel
from tidehub.checks.report import PhaseFailed

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

BOUND = 30.0
"""Seconds until everything answers again."""
_SIZE = 400

_START = """
import json, os, time
open(os.path.expanduser("~/kept.txt"), "w").write("kept")
from dask_gateway import GatewayCluster
cluster = GatewayCluster()
cluster.scale(2)
client = cluster.get_client()
client.wait_for_workers(2, timeout=200)
workers = sorted(client.run(os.getpid).values())
kept = "still here"
print(json.dumps({"workers": workers, "cluster": cluster.name, "dashboard": cluster.dashboard_link,
                  "pid": os.getpid()}))
"""

_WORK = """
import json, threading, time
def slow(n):
    import time
    time.sleep(0.02)
    return n * n
running = client.map(slow, range(SIZE), pure=False)
print(json.dumps({"started": len(running)}))
""".replace("SIZE", str(_SIZE))

_COLLECT = """
import json, os
total = sum(client.gather(running))
print(json.dumps({"sum": total, "kept": kept, "pid": os.getpid(),
                  "file": open(os.path.expanduser("~/kept.txt")).read()}))
"""

_ANEW = """
import json, os, time
until = time.monotonic() + 25
while True:
    try:
        total = client.submit(sum, client.map(lambda n: n * n, range(SIZE), pure=False), pure=False).result(timeout=10)
        break
    except Exception:
        if time.monotonic() > until:
            raise
        time.sleep(0.2)
print(json.dumps({"sum": total, "workers": sorted(client.run(os.getpid).values())}))
""".replace("SIZE", str(_SIZE))

_LIST = """
import json
from dask_gateway import Gateway
print(json.dumps({"clusters": [each.name for each in Gateway().list_clusters()]}))
"""


class AtWork:
    """Alice with a notebook, a kernel, a cluster of two workers, and a client that computes."""

    def __init__(self, alice: User, kernel: Kernel, facts: dict[str, Any]) -> None:
        self.alice, self.kernel, self.facts = alice, kernel, facts
        self.platform = alice.platform
        self.server_pid = self._server_pid()

    def _server_pid(self) -> int:
        [server] = [each for each in self.platform.status()["servers"] if "alice" in each["id"]]
        return int(server["pid"])

    def notebook_is_the_same(self) -> bool:
        return self._server_pid() == self.server_pid

    async def reconnect(self) -> None:
        """A page that lost its websocket opens it again to the same kernel, as JupyterLab does."""
        self.kernel.disconnect()
        self.kernel = await Kernel.connect(self.alice.browser, self.alice.base, self.kernel.ident)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def work(platform: RealPlatform) -> AsyncIterator[AtWork]:
    async with login(platform, "alice") as alice:
        await alice.start()
        kernel = await alice.kernel()
        at_work = AtWork(alice, kernel, await kernel.result(_START))
        yield at_work
        await at_work.kernel.run("client.close(); cluster.shutdown()")


async def all_answers(work: AtWork) -> bool:
    """The front page, the provider, hub pages, the notebook and the dashboard, each through the front door."""
    browser = work.alice.browser
    async with Browser(work.platform.address) as stranger:
        front = await stranger.open("hub/login")
        provider = await stranger.open("services/identity/.well-known/openid-configuration")
    answers = [
        front.status,
        provider.status,
        (await browser.open("hub/home")).status,
        (await browser.call("GET", f"{work.alice.base}api/status")).status_code,
        (await browser.open(work.facts["dashboard"])).status,
        (await browser.call("GET", "services/dask-gateway/api/health")).status_code,
    ]
    return answers == [200] * len(answers)


@pytest.mark.parametrize("part", ["hub", "proxy", "gateway", "identity", "dashboards", "culler"])
async def test_a_killed_part_loses_nothing(
    work: AtWork, part: str, record_property: Callable[[str, object], None]
) -> None:
    await work.kernel.result(_WORK)
    killed = work.platform.kill(part)
    seconds = await eventually(
        lambda: all_answers(work), within=BOUND, saying=f"all answers after kill -9 of {part}"
    )
    record_property("seconds", round(seconds, 2))
    print(f"kill -9 {part}: all answers after {seconds:.2f} s")
    if part == "proxy":
        await work.reconnect()
    done = await work.kernel.result(_COLLECT)
    assert done == {
        "sum": sum(n * n for n in range(_SIZE)), "kept": "still here", "pid": work.facts["pid"], "file": "kept",
    }  # fmt: skip
    anew = await work.kernel.result(_ANEW)
    assert anew == {"sum": done["sum"], "workers": work.facts["workers"]}, "the same workers compute on"
    assert work.facts["cluster"] in (await work.kernel.result(_LIST))["clusters"]
    assert work.notebook_is_the_same()
    await eventually(
        lambda: _back(work.platform, part, killed), within=BOUND, saying=f"{part} is in the status again"
    )


async def test_a_killed_gateway_proxy_keeps_notebook_and_cluster(work: AtWork) -> None:
    """Connections through it break, and distributed drops the running futures of such a client; the cluster stays."""
    killed = work.platform.kill("gateway-proxy")
    seconds = await eventually(lambda: all_answers(work), within=BOUND, saying="all answers")
    print(f"kill -9 gateway-proxy: all answers after {seconds:.2f} s")
    anew = await work.kernel.result(_ANEW)
    assert anew == {"sum": sum(n * n for n in range(_SIZE)), "workers": work.facts["workers"]}
    assert work.notebook_is_the_same()
    await eventually(
        lambda: _back(work.platform, "gateway-proxy", killed), within=BOUND, saying="in the status again"
    )


async def test_a_stopped_server_and_a_new_cluster_after_all_that(work: AtWork) -> None:
    """What was adopted by restarted parts can still be ended, and new things can be started."""
    created = await work.kernel.result(
        "import json; second = GatewayCluster(); print(json.dumps({'name': second.name})); second.shutdown()"
    )
    assert created["name"] != work.facts["cluster"]
    async with login(work.platform, "bob") as bob:
        await bob.start("minimal")
        assert (await bob.run("print(6 * 7)")).stdout == "42\n"


async def test_a_killed_hub_while_a_server_starts_leaves_no_orphan(platform: RealPlatform) -> None:
    async with login(platform, "olga") as olga:
        start = asyncio.create_task(olga.start("minimal"))
        await eventually(
            lambda: _launched(platform, "olga"), within=60, every=0.01, saying="olga's server is launched"
        )
        platform.kill("hub")
        with pytest.raises(PhaseFailed):
            await asyncio.wait_for(start, BOUND)
        await eventually(lambda: _home_opens(olga), within=BOUND, saying="the hub is back")
        await olga.start("minimal")
        assert (await olga.run("print(6 * 7)")).stdout == "42\n"
        servers = [each for each in platform.status()["servers"] if "olga" in each["id"]]
        assert len(servers) == 1


async def _back(platform: RealPlatform, part: str, killed: int) -> bool:
    status = await asyncio.to_thread(platform.status)
    found = next(each for each in status["parts"] if each["name"] == part)
    return bool(
        status["healthy"] and found["state"] == "ready" and found["pid"] != killed and found["restarts"] >= 1
    )


async def _launched(platform: RealPlatform, name: str) -> bool:
    """Stops the user's server as soon as it is written down: it cannot be ready before the hub is gone."""
    with contextlib.closing(sqlite3.connect(f"file:{platform.places.users}?mode=ro", uri=True)) as table:
        found = table.execute("SELECT pid FROM launches WHERE person = ?", (name,)).fetchone()
    if found is None:
        return False
    os.kill(found[0], signal.SIGSTOP)
    return True


async def _home_opens(user: User) -> bool:
    return (await user.open("hub/home")).status == 200
