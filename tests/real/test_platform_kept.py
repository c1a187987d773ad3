"""`down --keep` and the next `up`: parts end, and nothing of the users does."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from real_platform import RealPlatform, running_platform
from real_user import eventually, login
from supervisor_dummies import alive

from tidehub.checks.kernel import Kernel

pytestmark = pytest.mark.real

START = """
import json, os
from dask_gateway import GatewayCluster
cluster = GatewayCluster()
cluster.scale(1)
client = cluster.get_client()
client.wait_for_workers(1, timeout=200)
kept = "still here"
print(json.dumps({"pid": os.getpid(), "cluster": cluster.name, "workers": list(client.run(os.getpid).values())}))
"""

ANEW = """
import json, os, time
until = time.monotonic() + 60
while True:
    try:
        total = client.submit(sum, range(10), pure=False).result(timeout=10)
        break
    except Exception:
        if time.monotonic() > until:
            raise
        if client.status == "closed":
            # distributed's client gives up after half a minute without its scheduler; the cluster does not.
            client = cluster.get_client()
        time.sleep(0.2)
print(json.dumps({"pid": os.getpid(), "kept": kept, "sum": total, "workers": list(client.run(os.getpid).values())}))
"""


@pytest.fixture
def platform() -> Iterator[RealPlatform]:
    with running_platform("kept") as started:
        yield started


def pids(platform: RealPlatform) -> dict[str, int]:
    """Of every server, scheduler and worker."""
    status = platform.status()
    return {str(one["id"]): int(one["pid"]) for one in [*status["servers"], *status["clusters"]]}


async def test_servers_and_clusters_outlive_down_with_keep(platform: RealPlatform) -> None:
    async with login(platform, "alice") as alice:
        await alice.start()
        kernel = await alice.kernel()
        facts = await kernel.result(START)
        before = pids(platform)
        assert len(before) == 3
        parts = [int(part["pid"]) for part in platform.status()["parts"]]

        done = platform.command("down", "--keep")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "keep running" in done.stdout
        assert not any(alive(pid) for pid in parts)
        assert all(alive(pid) for pid in before.values())
        assert platform.status()["state"] == "kept"
        assert "tidehub up" in platform.command("status").stdout
        assert " ".join(platform.arguments) in platform.command("status").stdout
        again = platform.command("down", "--keep")
        assert again.returncode == 0 and "No parts" in again.stdout + again.stderr
        assert all(alive(pid) for pid in before.values())

        platform.up()
        assert pids(platform) == before
        kernel.disconnect()
        kernel = await Kernel.connect(alice.browser, alice.base, kernel.ident)
        assert await kernel.result(ANEW) == {
            "pid": facts["pid"], "kept": "still here", "sum": 45, "workers": facts["workers"],
        }  # fmt: skip
        # What was taken over can still be ended, and new things can be started.
        await kernel.result("import json; client.close(); cluster.shutdown(); print(json.dumps({}))")
        await eventually(
            lambda: _is(platform, 1), within=30, every=1, saying="the cluster that was taken over ends"
        )
        await alice.stop()
        await alice.start()


async def test_down_ends_what_an_earlier_down_kept(platform: RealPlatform) -> None:
    async with login(platform, "bob") as bob:
        await bob.start("minimal")
        [pid] = pids(platform).values()
        bob.journey.server_started = False
        kept = json.loads(platform.command("down", "--keep", "--json").stdout)
        assert (kept["ok"], kept["before"], kept["after"]) == (True, "running", "kept")
        assert "hub" in kept["ended"]["parts"] and "servers" not in kept["ended"]
        assert ["bob" in name for name in kept["keeps_running"]["servers"]] == [True]
        assert alive(pid)
        done = platform.command("down", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        told = json.loads(done.stdout)
        assert (told["ok"], told["before"], told["after"], told["keeps_running"]) == (
            True,
            "kept",
            "stopped",
            {},
        )
        assert told["stays"]["files"] == str(platform.places.homes)
        assert not alive(pid)
        assert json.loads(platform.command("status", "--json").stdout)["state"] == "stopped"


def test_down_with_keep_when_nothing_of_the_users_runs(platform: RealPlatform) -> None:
    done = platform.command("down", "--keep")
    assert done.returncode == 0 and "No servers or clusters ran" in done.stdout
    assert platform.status()["state"] == "stopped"


async def _is(platform: RealPlatform, count: int) -> bool:
    return len(pids(platform)) == count
