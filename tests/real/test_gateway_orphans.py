"""Clusters that nobody uses and whose owner has no notebook server are ended, each after a grace of its own.

The real hub tells who has a server; real schedulers tell whether they compute or have a client.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator

import aiohttp
import pytest
from gateway_platform import SITE, Platform, wait_for

from tidehub.gateway.reaper import HubUnreachable, users_with_servers

pytestmark = pytest.mark.real

GRACE = 6.0
_START = """
import sys, time
from dask_gateway import Gateway
gateway = Gateway()
"""
_ABANDON = (
    _START
    + """
name = gateway.submit()
while gateway.get_cluster(name).status.name == "PENDING":
    time.sleep(0.1)
print("RUNS", name, flush=True)
"""
)
_CONNECTED = (
    _START
    + """
cluster = gateway.new_cluster(shutdown_on_close=False)
client = cluster.get_client()
print("RUNS", cluster.name, flush=True)
sys.stdin.readline()
"""
)
_COMPUTING = (
    _START
    + """
from dask.distributed import fire_and_forget
cluster = gateway.new_cluster(shutdown_on_close=False)
cluster.scale(1)
client = cluster.get_client()
client.wait_for_workers(1)
began = time.monotonic()
fire_and_forget(client.submit(time.sleep, {seconds}))
while not any(client.processing().values()):
    time.sleep(0.05)
print("RUNS", cluster.name, began, flush=True)
"""
)


@pytest.fixture
def platform() -> Iterator[Platform]:
    started = Platform(
        site=SITE.replace("orphan_grace: 10 min", f"orphan_grace: {GRACE:g} s"), reap_period=0.5
    )
    try:
        yield started.start()
    finally:
        started.stop()


def test_an_abandoned_cluster_ends_after_its_own_grace(platform: Platform) -> None:
    """The owner has been without a server for longer than the grace when each cluster is made."""
    for _ in range(2):
        began = time.monotonic()
        name = _name(platform.in_notebook(_ABANDON))
        wait_for(f"the end of {name}", lambda name=name: _ended(platform, name), 60)  # type: ignore[misc]
        assert time.monotonic() - began >= GRACE
    asyncio.run(_ask(platform))


def test_a_client_from_outside_and_a_computation_keep_their_clusters(platform: Platform) -> None:
    seconds = 3 * GRACE
    connected = platform.notebook_process(_CONNECTED, "alice")
    try:
        kept = _name(_line(connected))
        said = platform.in_notebook(_COMPUTING.format(seconds=seconds), "bob")
        computing, began = _name(said), float(said.split()[-1])  # one clock for all processes of a machine
        idle = _name(platform.in_notebook(_ABANDON, "bob"))
        wait_for("the idle one to end", lambda: _ended(platform, idle), 60)
        # The reaper begins anew with the gateway: that must end nobody.
        platform.restart("gateway")
        wait_for("the computing one to end", lambda: _ended(platform, computing), 120)
        assert time.monotonic() - began >= seconds - 1 + GRACE, "ended before it was done, plus its grace"
        assert not _ended(platform, kept), "a client was connected all the time"
        assert connected.stdin is not None
        connected.stdin.write("\n")
        connected.stdin.close()
        connected.wait(60)
        gone = time.monotonic()
        wait_for("the one whose client went to end", lambda: _ended(platform, kept), 60)
        assert time.monotonic() - gone >= GRACE - 1
    finally:
        connected.kill()
        connected.wait()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("RUNS "):
            return line
    raise AssertionError("the client ended")


def _name(said: str) -> str:
    return next(line for line in said.splitlines() if line.startswith("RUNS ")).split()[1]


def _ended(platform: Platform, name: str) -> bool:
    return f"Cluster {name} is ended: no client, no computation" in platform.log("gateway")


async def _ask(platform: Platform) -> None:
    url, token = platform.settings.hub_api_url, platform.secrets.reaper_token.reveal()
    async with aiohttp.ClientSession() as session:
        assert await users_with_servers(session, url, token) == {}
        with pytest.raises(HubUnreachable, match="answered 403"):
            await users_with_servers(session, url, "wrong")
        platform.kill("hub")
        wait_for("the hub to be gone", lambda: platform.processes["hub"].poll() is not None)
        with pytest.raises(HubUnreachable):
            await users_with_servers(session, url, token)
