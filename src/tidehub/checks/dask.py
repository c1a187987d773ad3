"""A Dask cluster from a notebook cell, with no settings, and its dashboard through the public address."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from tidehub.checks.browser import Browser, Page
from tidehub.checks.journey import Journey
from tidehub.checks.kernel import Kernel
from tidehub.checks.report import PhaseFailed
from tidehub.checks.server import server_path

_CREATE = """
import json
from dask_gateway import GatewayCluster
cluster = GatewayCluster()
print(json.dumps({"name": cluster.name, "dashboard": cluster.dashboard_link}))
"""

_COMPUTE = """
import json, os
cluster.scale(WORKERS)
client = cluster.get_client()
client.wait_for_workers(WORKERS, timeout=DEADLINE)
total = client.submit(sum, client.map(lambda n: n * n, range(1000))).result(timeout=DEADLINE)
# By address: in a sandbox every worker has the same process number.
processes = client.run(os.getpid)
print(json.dumps({"sum": total, "processes": len(processes)}))
"""

# The gateway answers a request to stop at once and then ends workers and scheduler: what counts is that they are gone.
_UNTIL_GONE = """
import time
def gone(gateway, name):
    left = lambda: [c.name for c in gateway.list_clusters(status=["PENDING", "RUNNING", "STOPPING"])]
    until = time.monotonic() + 60
    while name in left() and time.monotonic() < until:
        time.sleep(0.2)
    return name not in left()
"""

_CLOSE = f"""
import json
{_UNTIL_GONE}
client = globals().get("client")
if client is not None:
    client.close()
cluster.shutdown()
from dask_gateway import Gateway
with Gateway() as gateway:
    print(json.dumps({{"gone": gone(gateway, cluster.name)}}))
"""

_STOP_BY_NAME = f"""
import json
from dask_gateway import Gateway
{_UNTIL_GONE}
with Gateway() as gateway:
    gateway.stop_cluster(NAME)
    print(json.dumps({{"gone": gone(gateway, NAME)}}))
"""

COMPUTE_DEADLINE = 240.0
"""Seconds a cluster may take to get its workers and to compute; a whole machine may have a queue."""


def without_dask(journey: Journey) -> str:
    """Why there is no Dask to check, or nothing."""
    return "" if journey.target.workers else "this user has no Dask clusters here"


async def create_cluster(journey: Journey) -> str:
    """`GatewayCluster()` in a cell, as the documentation tells users to."""
    found = await journey.need_kernel().result(_CREATE)
    journey.cluster, journey.dashboard = str(found["name"]), str(found["dashboard"] or "")
    return journey.cluster


async def compute(journey: Journey) -> str:
    """Scales the cluster and computes a known sum on its workers."""
    workers, missing = _workers(journey)
    code = _COMPUTE.replace("WORKERS", str(workers)).replace("DEADLINE", str(COMPUTE_DEADLINE - 20))
    found = await journey.need_kernel().result(code)
    if found["sum"] != 332833500:
        raise PhaseFailed(f"the cluster computed {found['sum']}, expected 332833500")
    if found["processes"] != workers:
        raise PhaseFailed(f"{found['processes']} workers computed, expected {workers}")
    return f"on {workers} worker{'s' if workers > 1 else ''}{missing}"


def _workers(journey: Journey) -> tuple[int, str]:
    """How many workers to ask for, and why that is less than usual."""
    target = journey.target
    profile = journey.profile or target.default_profile
    possible = target.workers if target.fitting is None else target.fitting(profile)
    if possible < 1:
        raise PhaseFailed(
            f"this machine has no memory for a Dask worker next to a server of the profile {profile} and a scheduler: "
            "start the platform with --fit, or make dask.worker.memory.default, dask.scheduler.memory or "
            "notebooks.memory.guarantee smaller"
        )
    if possible < target.workers:
        return (
            possible,
            f": the memory of this machine has no room for more next to a server of the profile {profile}",
        )
    return target.workers, ""


async def open_dashboard(journey: Journey) -> str:
    """The dashboard opens by its link for its owner, and for nobody who is not signed in."""
    if not journey.dashboard:
        raise PhaseFailed("the cluster has no dashboard link")
    link = journey.browser.url(journey.dashboard)
    if not link.startswith(journey.browser.address):
        raise PhaseFailed(f"the dashboard link leads away from the platform: {link}")
    page = await journey.browser.open(link)
    if not _is_dashboard(page):
        raise PhaseFailed(f"the dashboard does not open: {page.words}")
    async with Browser(journey.browser.address, certificate=journey.browser.certificate) as stranger:
        shown = await stranger.open(link)
    if _is_dashboard(shown) or (shown.status == 200 and shown.path == urlsplit(link).path):
        raise PhaseFailed("the dashboard opens for somebody who is not signed in")
    return "for its owner only"


def _is_dashboard(page: Page) -> bool:
    return page.status == 200 and "bokeh" in page.html.lower()


async def stop_cluster(journey: Journey) -> str:
    """Shuts the cluster down, from its own kernel or, when that is gone, from a new one."""
    name, journey.cluster = journey.cluster, ""
    if journey.kernel is not None:
        try:
            closed = await journey.kernel.result(_CLOSE)
        except PhaseFailed:
            journey.kernel.disconnect()
        else:
            return _stopped(name, closed, "")
    journey.kernel = await Kernel.start(journey.browser, server_path(journey))
    closed = await journey.kernel.result(_STOP_BY_NAME.replace("NAME", json.dumps(name)))
    return _stopped(name, closed, "from a new kernel")


def _stopped(name: str, closed: dict[str, Any], note: str) -> str:
    if not closed["gone"]:
        raise PhaseFailed(f"the gateway still lists the cluster {name} a minute after the request to stop it")
    return note
