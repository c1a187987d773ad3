"""`kill -9` of gateway, gateway proxy and gate under use: clusters go on, and clients with them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import httpx
import pytest
from gateway_platform import Platform, wait_for

pytestmark = pytest.mark.real

BUSY = """
import sys, time, threading
from dask_gateway import GatewayCluster
cluster = GatewayCluster(); cluster.scale(2); client = cluster.get_client()
client.wait_for_workers(2, timeout=120)
print("BUSY", cluster.name, flush=True)
def slow(n):
    time.sleep(0.3)
    return n
go_on = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), go_on.set()), daemon=True).start()
rounds = lost = 0
while not go_on.is_set():
    try:
        assert sum(client.gather(client.map(slow, range(4), key=f"r{rounds}"))) == 6
        rounds += 1
    except Exception as error:
        lost += 1
        print("LOST", type(error).__name__, error, flush=True)
        time.sleep(0.5)
assert sum(client.gather(client.map(slow, range(4), key="last"))) == 6
print("ROUNDS", rounds, "LOST", lost, flush=True)
cluster.scale(1)
client.close(); cluster.close()
print("CLOSED", flush=True)
"""


class Busy:
    """A notebook that computes without pause."""

    def __init__(self, platform: Platform, user: str) -> None:
        self.process = platform.notebook_process(BUSY, user)
        self.platform = platform
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("BUSY"), line + (self.process.communicate()[0] or "") + platform.tails()
        self.cluster = line.split()[1]

    def finish(self) -> tuple[int, int]:
        """Rounds that were computed, and rounds that failed."""
        try:
            said, _ = self.process.communicate("go on\n", timeout=90)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError((self.process.communicate()[0] or "") + self.platform.tails()) from None
        assert "CLOSED" in said, said + self.platform.tails()
        words = next(line for line in said.splitlines() if line.startswith("ROUNDS")).split()
        return int(words[1]), int(words[3])


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    running = Platform()
    try:
        yield running.start()
    finally:
        running.stop()


def pids(platform: Platform) -> set[int]:
    """The processes of all clusters."""
    from tidehub.local.isolation import choose_isolation

    return {line.handle.pid for line in choose_isolation(platform.places).running("clusters")}


def test_a_killed_gateway_loses_nothing(platform: Platform) -> None:
    busy = Busy(platform, "alice")
    before = pids(platform)
    assert len(before) == 3
    platform.kill("gateway")
    time.sleep(1)  # the client goes on meanwhile
    platform.run("gateway")
    wait_for("the gateway", lambda: _healthy(platform), 60)
    assert pids(platform) == before
    # A new cluster is routed after the restart too, and the old one counts against the user's limits.
    said = platform.in_notebook(
        """
from dask_gateway import Gateway
gateway = Gateway()
print("KNOWN", [(c.name, c.status.name) for c in gateway.list_clusters()])
second = gateway.new_cluster()
try:
    gateway.submit()
except ValueError as error:
    print("REFUSED", error)
client = second.get_client(); second.scale(1)
print("SUM", client.submit(sum, [1, 2]).result(timeout=60))
client.close(); second.close(); gateway.close()
"""
    )
    assert busy.cluster in said and "RUNNING" in said
    assert "REFUSED You have 2 clusters" in said
    assert "SUM 3" in said
    rounds, lost = busy.finish()
    assert rounds > 0
    assert lost == 0
    wait_for("the processes to end", lambda: not pids(platform), 30)


def test_a_killed_gateway_proxy_breaks_connections_and_the_client_comes_back(platform: Platform) -> None:
    busy = Busy(platform, "bob")
    before = pids(platform)
    platform.kill("gateway-proxy")
    time.sleep(1)
    platform.run("gateway-proxy")
    wait_for("the proxy", lambda: _healthy(platform), 60)
    assert pids(platform) == before
    time.sleep(3)  # let it compute after the restart
    rounds, _ = busy.finish()
    assert rounds > 0


def test_a_killed_gate_is_not_noticed_by_computations(platform: Platform) -> None:
    busy = Busy(platform, "carol")
    platform.restart("gate")
    rounds, lost = busy.finish()
    assert rounds > 0
    assert lost == 0


def test_a_hub_that_restarts_breaks_no_cluster(platform: Platform) -> None:
    token = platform.token("dora")
    headers = {"Authorization": f"jupyterhub {token}"}
    url = f"http://{platform.settings.address}/api/v1/clusters/"
    busy = Busy(platform, "dora")
    assert httpx.get(url, headers=headers).status_code == 200
    platform.kill("hub")
    time.sleep(11)  # longer than a good token is believed without asking
    assert httpx.get(url, headers=headers).status_code == 200
    unknown = httpx.get(url, headers={"Authorization": "jupyterhub never-seen"})
    assert unknown.status_code == 503
    assert "Try again" in unknown.json()["error"]
    rounds, lost = busy.finish()
    assert (rounds > 0, lost) == (True, 0)
    platform.run("hub")


def test_a_scheduler_that_is_killed_is_told_and_cleared_away(platform: Platform) -> None:
    wait_for("the hub", lambda: _answers(f"{platform.public}/hub/api/"), 90)
    process = platform.notebook_process(
        """
import sys
from dask_gateway import Gateway
gateway = Gateway()
cluster = gateway.new_cluster()
client = cluster.get_client()
print("PID", client.run_on_scheduler(__import__("os").getpid), flush=True)
sys.stdin.readline()
import time
for _ in range(100):
    try:
        cluster.scale(1)
    except Exception as error:
        print("TOLD", type(error).__name__, error)
        if "SIGKILL" in str(error):
            break
    time.sleep(0.2)
try:
    gateway.connect(cluster.name)
except Exception as error:
    print("CONNECT", type(error).__name__, error, flush=True)
# Not by the interpreter's end: distributed's client tries to reach a scheduler that has gone, and its threads
# may not end.
__import__("os")._exit(0)
""",
        "erik",
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("PID"), line
    os.kill(int(line.split()[1]), signal.SIGKILL)
    said, _ = process.communicate("go on\n", timeout=120)
    assert "The scheduler of this cluster stopped by SIGKILL" in said
    assert "CONNECT GatewayClusterError" in said
    wait_for("the processes to end", lambda: not pids(platform), 30)


def _healthy(platform: Platform) -> bool:
    return _answers(f"http://{platform.gate_address}{platform.prefix}/api/health")


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
