"""Notebook servers on Kubernetes: a busy kernel keeps its server, and the Dask panel knows the user's clusters."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from chart_hub import environment
from gateway_platform import wait_for
from lab_in_browser import PATIENCE, compute_in_a_notebook, found_by_the_panel, run
from lab_panel import clusters_made_elsewhere, left_running, plots_of
from pod_platform import BARE, NAMESPACE, PREFIX, PodPlatform

pytestmark = pytest.mark.real
IDLE = 8
AGE = 50


OLD = (
    "jupyterhub==3.1.1", "jupyter-server==1.24.0", "jupyterlab==3.6.5", "nbclassic==0.5.6", "notebook==6.5.4",
    "jupyter-client<8", "tornado<6.4", "sqlalchemy<2", "pyzmq<25", "ipykernel",
)  # fmt: skip
"""As in images of early 2023, without Dask."""


@pytest.fixture(scope="module")
def old_image(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """An environment with those packages; None where they cannot be installed."""
    made = environment(tmp_path_factory.mktemp("image") / "old", list(OLD))
    return Path(made).parents[1] if made else None


@pytest.fixture(scope="module")
def hasty(old_image: Path | None) -> Iterator[PodPlatform]:
    """Servers are idle after seconds and old after a minute."""
    with PodPlatform(idle=IDLE, age=AGE, images={"old": old_image} if old_image else None) as started:
        yield started


@pytest.fixture(scope="module")
def pods() -> Iterator[PodPlatform]:
    with PodPlatform(idle=3600, age=86400) as started:
        yield started


def test_a_silent_computation_keeps_its_server_until_its_age_ends_it(hasty: PodPlatform) -> None:
    """A server without our files is stopped meanwhile, and so is one whose computation is over."""
    for name, seconds in ((BARE, 600), ("bob", 2)):
        hasty.start(name)
        asyncio.run(hasty.compute(name, f"import time; time.sleep({seconds})"))
    asked = time.monotonic()
    hasty.start("alice")
    asyncio.run(hasty.compute("alice", "import time; time.sleep(600)"))
    began = time.monotonic()
    # Of the hub alone: what goes to the servers would count as activity.
    for name in (BARE, "bob"):
        wait_for(
            f"the server of {name} is taken for idle", lambda name=name: not hasty.record(name), 6 * IDLE
        )
    while time.monotonic() < min(began + 3 * IDLE, asked + AGE - 5):
        assert hasty.record("alice"), f"stopped after {time.monotonic() - began:.0f} s\n{hasty.log()}"
        time.sleep(1)
    wait_for("the server is too old", lambda: not hasty.record("alice"), AGE + 30)
    assert time.monotonic() - asked >= AGE


def test_an_older_image_without_dask_keeps_busy_servers_and_has_nothing_to_say(
    hasty: PodPlatform, old_image: Path | None
) -> None:
    if old_image is None:
        pytest.skip("the packages of an older image cannot be installed here")
    hasty.start("old")
    asyncio.run(hasty.compute("old", "import time; time.sleep(600)"))
    until = time.monotonic() + 2 * IDLE
    while time.monotonic() < until:
        assert hasty.record("old"), hasty.log()
        time.sleep(1)
    log = hasty.log()
    assert "pod_server | extension was successfully loaded" in log
    assert "does not work in this image" not in log


# --- the lab's Dask panel ----------------------------------------------------------------------

ECHO = """
from dask_gateway import Gateway
gateway = Gateway()
cluster = gateway.connect("{name}")
client = cluster.get_client()
def echo(dask_scheduler):
    from tornado import web
    class Echo(web.RequestHandler):
        def get(self):
            self.write({{key.lower(): value for key, value in self.request.headers.get_all()}})
    dask_scheduler.http_application.add_handlers(".*$", [("/echo", Echo)])
client.run_on_scheduler(echo)
client.close(); cluster.close(); gateway.close()
"""


@pytest.fixture(scope="module")
def lab(pods: PodPlatform) -> Iterator[httpx.Client]:
    """What alice's browser asks her server."""
    pods.start("alice")
    with pods.lab("alice") as client:
        yield client


def test_the_panel_has_the_clusters_of_a_notebook(pods: PodPlatform, lab: httpx.Client) -> None:
    strange = left_running(lambda code: pods.in_notebook("mallory", code))
    assert strange.startswith(f"{NAMESPACE}."), "as on Kubernetes"
    clusters_made_elsewhere(lab, str(lab.base_url).rstrip("/"), lambda code: pods.in_notebook("alice", code))


def test_plots_open_inside_jupyterlab(pods: PodPlatform, lab: httpx.Client) -> None:
    made = lab.put("dask/clusters/")
    assert made.status_code == 200, made.text + pods.log()
    model = made.json()
    link = model["dashboard_link"]
    assert link.startswith(f"{PREFIX}/clusters/{NAMESPACE}.") and link.endswith("/status")
    below = f"{lab.base_url}{link.lstrip('/')}".removesuffix("/status")
    assert plots_of(lab, f"{lab.base_url}dask/dashboard/{model['id']}") == plots_of(lab, below)
    for shown in (link, f"{pods.url}{link}"):
        answer = lab.get(f"dask/dashboard-check/{quote(shown, safe='')}").json()
        assert answer["isActive"] and answer["url"] == shown.removesuffix("/status"), answer
    assert httpx.get(f"{below}/status").status_code in (302, 403), "only with a login"
    # The link that a notebook shows, which leads through the hub's proxy.
    assert httpx.get(f"{pods.url}{link}").status_code == 200
    assert lab.delete(f"dask/clusters/{model['id']}").status_code == 204


@pytest.mark.browser
def test_the_panel_in_a_browser(pods: PodPlatform, lab: httpx.Client, browser: Any) -> None:
    """Auto-detect, the list, and "Launch dashboard in JupyterLab", each for a cluster of the open notebook."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(f"{pods.url}/hub/login?next=/user/alice/lab")
    page.fill("input[name=username]", "alice")
    page.fill("input[name=password]", "x")
    page.keyboard.press("Enter")
    page.wait_for_selector(".jp-LauncherCard")
    path = compute_in_a_notebook(page)
    assert path.startswith(f"{PREFIX}/clusters/{NAMESPACE}.")
    found_by_the_panel(page, path)
    run(page, "cluster.shutdown()\nprint('the cluster is', 'gone')", "the cluster is gone")
    context.close()


def test_no_token_goes_to_a_scheduler_and_no_page_of_another_user_comes_from_the_server(
    pods: PodPlatform, lab: httpx.Client
) -> None:
    """Nobody guards dashboards on Kubernetes: what a server sends to one is its scheduler's, who wrote that."""
    own, strange = (
        left_running(lambda code, name=name: pods.in_notebook(name, code)) for name in ("alice", "mallory")
    )
    for name, cluster in (("alice", own), ("mallory", strange)):
        pods.in_notebook(name, ECHO.format(name=cluster))
    listed = {one["dashboard_link"].split("/")[-2]: one["id"] for one in lab.get("dask/clusters/").json()}
    assert own in listed and strange not in listed
    for page in (f"{PREFIX[1:]}/clusters/{own}/echo", f"dask/dashboard/{listed[own]}/echo"):
        answer = lab.get(page, headers={"Cookie": "jupyterhub-user-alice=1", "X-Xsrftoken": "1"})
        assert answer.status_code == 200, answer.text
        assert not {"authorization", "cookie", "x-xsrftoken"} & set(json.loads(answer.text))
        assert lab.headers["Authorization"].split()[1] not in answer.text
    assert httpx.get(f"{pods.gateway}{PREFIX}/clusters/{strange}/echo").status_code == 200, (
        "open to everybody"
    )
    for page in ("status", "echo", "individual-plots.json"):
        assert lab.get(f"{PREFIX[1:]}/clusters/{strange}/{page}").status_code == 404
    for own_page in (f"{PREFIX[1:]}/clusters/{own}", f"dask/dashboard/{listed[own]}"):
        assert lab.get(f"{own_page}/..%2F{strange}/echo").status_code == 404
    check = lab.get(f"dask/dashboard-check/{quote(f'{PREFIX}/clusters/{strange}/status', safe='')}")
    assert not check.json()["isActive"]
