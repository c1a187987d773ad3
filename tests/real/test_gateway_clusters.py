"""Clusters as a notebook uses them: create, scale, compute; limits, waiting and memory in words the user sees."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gateway_platform import SITE, Platform, wait_for

pytestmark = pytest.mark.real

GIB = 1 << 30


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    # 3 GiB for users: a scheduler (0.5 GiB) and two of the largest workers do not fit.
    running = Platform(
        site=SITE.replace("max_clusters: 2}", "max_clusters: 2, max_memory: 3584 MiB}"), memory=3 * GIB
    )
    try:
        yield running.start()
    finally:
        running.stop()


def test_create_scale_compute_with_no_settings(platform: Platform) -> None:
    said = platform.in_notebook(
        """
import os
from dask_gateway import GatewayCluster
cluster = GatewayCluster(); cluster.scale(2); client = cluster.get_client()
client.wait_for_workers(2, timeout=120)
print("SUM", sum(client.gather(client.map(lambda n: n * n, range(10)))))
print("LIMITS", sorted(w["memory_limit"] >> 20 for w in client.scheduler_info()["workers"].values()))
print("UIDS", sorted(set(client.run(os.getuid).values())), client.run_on_scheduler(os.getuid))
print("ARGV", client.run(lambda: open("/proc/self/cmdline").read()))
client.restart()
client.wait_for_workers(2, timeout=120)
print("AGAIN", client.submit(sum, [1, 2]).result(timeout=60))
client.close(); cluster.close()
"""
    )
    assert "SUM 285" in said
    assert "LIMITS [384, 384]" in said
    assert "AGAIN 3" in said
    if os.geteuid() == 0:
        assert "UIDS [0" not in said


def test_the_widget_shows_the_sites_choices(platform: Platform) -> None:
    said = platform.in_notebook(
        """
from dask_gateway import Gateway
gateway = Gateway()
options = gateway.cluster_options()
print({f.field: (f.value, getattr(f, "min", None), getattr(f, "max", None)) for f in options._fields.values()})
gateway.close()
"""
    )
    assert "'worker_cores': (1, 1, 2)" in said
    assert "'worker_memory': (0.375, 0.375, 2" in said
    assert "'profile': ('standard'" in said


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("worker_cores=3", "worker_cores is 3; this site allows 1 to 2 cores (dask.worker.cores)"),
        ("worker_memory=9", "this site allows 384 MiB to 2 GiB (dask.worker.memory)"),
        ("profile='none'", "profile 'none' does not exist; you may choose: standard, other"),
        ("image='quay.io/x/y:1'", "Choose profile: standard, other"),
        ("colour='red'", "cluster option colour does not exist"),
    ],
)
def test_an_option_out_of_range_is_refused_in_words(platform: Platform, option: str, words: str) -> None:
    said = platform.in_notebook(
        f"""
from dask_gateway import Gateway
gateway = Gateway()
try:
    gateway.submit({option})
except ValueError as error:
    print("REFUSED", error)
gateway.close()
"""
    )
    assert "REFUSED" in said
    assert words in said


def test_limits_of_cluster_and_user_are_named(platform: Platform) -> None:
    said = platform.in_notebook(
        """
import warnings
from dask_gateway import Gateway
gateway = Gateway()
first = gateway.new_cluster(worker_memory=0.5)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    first.scale(10)
print("WARNED", [str(w.message) for w in caught], [w.category.__name__ for w in caught])
second = gateway.new_cluster(image="quay.io/example/other:1")
try:
    gateway.submit()
except ValueError as error:
    print("REFUSED", error)
print("PROFILE", gateway.get_cluster(second.name).options["profile"])
first.close(); second.close(); gateway.close()
""",
        "bob",
    )
    assert "WARNED" in said
    assert "would exceed resource limit of 3 workers. Scaling to 3 instead." in said
    assert "GatewayWarning" in said
    assert "dask.cluster.max_workers: 3 for one cluster" in said
    assert "You have 2 clusters, and this site allows 2 for each user (dask.per_user.max_clusters)" in said
    assert "PROFILE other" in said


def test_what_does_not_fit_waits_and_says_why(platform: Platform) -> None:
    """A second 2 GiB worker waits for memory; a warning says so in the notebook, the status tells place and reason."""
    said = platform.in_notebook(
        """
import time, os, urllib.request, json, warnings
from dask_gateway import Gateway
gateway = Gateway()
cluster = gateway.new_cluster(worker_memory=1.25)
client = cluster.get_client()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    cluster.scale(2)
    client.wait_for_workers(2, timeout=120)
    print("BOTH RUN")
    other = gateway.submit()
    request = urllib.request.Request(
        os.environ["DASK_GATEWAY__ADDRESS"] + "/api/tidehub/v1/clusters",
        headers={"Authorization": "jupyterhub " + os.environ["JUPYTERHUB_API_TOKEN"]})
    for _ in range(100):
        known = {c["name"]: c for c in json.load(urllib.request.urlopen(request))["clusters"]}
        if known[other]["reason"]:
            break
        time.sleep(0.1)
    print("CLUSTER", known[other]["status"], known[other]["place"], known[other]["reason"])
    cluster.scale(1)
    second = gateway.connect(other)
    print("NOW", gateway.get_cluster(other).status.name)
    client2 = second.get_client()
    second.scale(3)
    deadline = time.time() + 60
    while not any("not started yet" in str(w.message) for w in caught) and time.time() < deadline:
        time.sleep(0.1)
print("EVENTS", client2.get_events("tidehub"))
client.close(); client2.close(); cluster.close(); second.shutdown(); gateway.close()
""",
        "dora",
    )
    assert "BOTH RUN" in said
    assert (
        "CLUSTER pending 1 waiting for memory: needs 512 MiB, " in said and " of 3 GiB are guaranteed" in said
    )
    assert "NOW RUNNING" in said
    assert "1 worker is not started yet: waiting for memory: needs 384 MiB" in said.split("EVENTS")[1]


def test_a_worker_that_needs_too_much_memory_is_told_in_the_notebook(platform: Platform) -> None:
    said = platform.in_notebook(
        """
import time, warnings
from dask_gateway import GatewayCluster
cluster = GatewayCluster(); cluster.scale(1); client = cluster.get_client()
client.wait_for_workers(1, timeout=90)
def hog():
    kept = []
    while True:
        kept.append(bytearray(b"x") * (32 << 20))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    try:
        client.submit(hog).result(timeout=200)
    except Exception as error:
        print("FAILED", type(error).__name__, getattr(error, "__notes__", None))
    deadline = time.time() + 30
    while not any("memory" in str(w.message) for w in caught) and time.time() < deadline:
        time.sleep(0.1)
    print("TOLD", [str(w.message) for w in caught])
print("EVENTS", len(client.get_events("tidehub")))
client.close(); cluster.close()
""",
        "erik",
        400,
    )
    if platform.kills_for_memory:
        assert "FAILED KilledWorker" in said
        assert "the last worker was" in said.split("TOLD")[0]
    else:
        # Without control groups a process meets its own limit first: Python's MemoryError says it.
        assert "FAILED MemoryError" in said or "FAILED KilledWorker" in said
        return
    assert "Choose a larger worker_memory" in said.split("TOLD")[1]
    assert "384 MiB" in said.split("TOLD")[1]
    assert "EVENTS 0" not in said


def test_a_scheduler_that_needs_too_much_memory_is_told(platform: Platform) -> None:
    said = platform.in_notebook(
        """
import time
from dask_gateway import GatewayCluster
cluster = GatewayCluster(); client = cluster.get_client()
def hog():
    kept = []
    while True:
        kept.append(bytearray(b"x") * (64 << 20))
try:
    client.run_on_scheduler(hog)
except Exception as error:
    print("LOST", type(error).__name__)
for _ in range(100):
    try:
        cluster.scale(1)
    except Exception as error:
        print("TOLD", type(error).__name__, error)
        if "memory" in str(error):
            break
    time.sleep(0.2)
client.close(); cluster.close()
""",
        "fay",
    )
    if not platform.kills_for_memory:
        assert "LOST MemoryError" in said or "GatewayClusterError" in said
        return
    assert "GatewayClusterError" in said
    assert "used more than its memory limit of 512 MiB" in said


def test_a_token_that_the_hub_does_not_know_is_401(platform: Platform) -> None:
    url = f"http://{platform.settings.address}/api/v1/clusters/"
    for header in ("jupyterhub garbage", "jupyterhub", "Basic eDp5", "jupyterhub " + "x" * 3000):
        assert httpx.get(url, headers={"Authorization": header}).status_code == 401, header
    narrow = platform.token("bob", ("read:users:name!user",))
    assert httpx.get(url, headers={"Authorization": f"jupyterhub {narrow}"}).status_code == 401


def test_a_stopped_cluster_leaves_logs_and_nothing_else(platform: Platform) -> None:
    said = platform.in_notebook(
        """
import os, subprocess
from dask_gateway import GatewayCluster
cluster = GatewayCluster(); cluster.scale(1); client = cluster.get_client()
client.wait_for_workers(1, timeout=90)
def orphan():
    import subprocess
    return subprocess.Popen(["sleep", "86397"], start_new_session=True).pid
client.run(orphan)
print("NAME", cluster.name)
client.close(); cluster.close()
""",
        "gus",
    )
    name = said.split("NAME ")[1].split()[0]
    logs = platform.places.cluster_logs / name
    wait_for("the working directory to go", lambda: not (platform.settings.clusters_dir / name).exists(), 30)
    assert stat.S_IMODE(logs.stat().st_mode) == 0o700
    assert (logs / "scheduler.log").read_text()
    assert len(list(logs.glob("worker-*.log"))) == 1
    assert not [pid for pid in Path("/proc").glob("[0-9]*") if _runs(pid, b"86397")]
    token = platform.log("gateway") + "".join(file.read_text() for file in logs.iterdir())
    for secret in platform.secrets:
        assert secret.reveal() not in token


def _runs(process: Path, word: bytes) -> bool:
    try:
        return word in (process / "cmdline").read_bytes()
    except OSError:
        return False
