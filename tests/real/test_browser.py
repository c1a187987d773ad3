"""A user in a real browser: sign in, choose a profile, compute with Dask in a notebook, watch the plots, stop.

`TIDEHUB_CHROMIUM` names another Chromium, `TIDEHUB_SCREENSHOTS` a directory that gets pictures of what was seen.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from independent_provider import installed
from lab_in_browser import PATIENCE, compute_in_a_notebook, found_by_the_panel, run
from real_platform import RealPlatform

from tidehub.local.front.pages import away_page

pytestmark = [pytest.mark.real, pytest.mark.browser]

_COMPUTE = """\
import dask.array as da
waves = da.random.random((4000, 4000), chunks=(500, 500))
height = (waves + waves.T).mean(axis=0).persist()
print("total", int(da.ones((1000, 1000), chunks=100).sum().compute()))"""

Picture = Callable[[Any, str], None]


@pytest.fixture(scope="module")
def picture() -> Picture:
    """Saves what a page shows now, where somebody asked for pictures."""
    chosen = os.environ.get("TIDEHUB_SCREENSHOTS")

    def save(page: Any, name: str) -> None:
        if chosen:
            Path(chosen).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(chosen) / f"{name}.png")

    return save


@pytest.fixture
def page(browser: Any, picture: Picture, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A page of a browser without a past. What a failed test saw last is among the pictures."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PATIENCE)
    opened = context.new_page()
    failed_before = request.session.testsfailed
    yield opened
    if request.session.testsfailed > failed_before:
        picture(opened, f"failed-{request.node.name}")
    context.close()


def test_from_the_login_page_to_the_plots_and_back(
    page: Any, platform: RealPlatform, picture: Picture
) -> None:
    _sign_in(page, platform, "alice", picture)
    _choose_and_start(page, platform, picture)
    # As the browser copies it: the extension takes a bare path for one below the notebook server.
    path = compute_in_a_notebook(page)
    link = "/".join(platform.address.split("/")[:3]) + path
    _dashboard_by_its_link(page, link, picture)
    found_by_the_panel(page, path)
    _plots_in_the_lab(page, link, picture)
    _a_cluster_from_the_lab(page, path)
    run(page, "cluster.shutdown()\nprint('the cluster is', 'gone')", "the cluster is gone")
    page.locator(".dask-ClusterListingItem").filter(has_text=path).wait_for(state="detached")
    _stop(page, platform)
    page.goto(f"{platform.address}hub/logout")
    page.goto(f"{platform.address}hub/home")
    page.wait_for_selector("text=Sign in")


def test_who_is_not_a_member_reads_why(page: Any, platform: RealPlatform, picture: Picture) -> None:
    _sign_in(page, platform, "nora", lambda page, name: None)
    text = page.inner_text(".error")
    assert "You are signed in as nora" in text and "(role member)" in text, text
    picture(page, "refused")
    page.click("text=Sign in with another account")
    # The provider asks first where it cannot know that the wish comes from the hub.
    page.locator("button:has-text('Sign out'), a:has-text('Sign in'), input[type=password]").first.wait_for()
    if page.is_visible("button:has-text('Sign out')"):
        page.click("button:has-text('Sign out')")
        page.wait_for_load_state()
    page.goto(platform.address)
    page.click("a:has-text('Sign in')")
    page.wait_for_selector("input[type=password]")


@pytest.fixture(scope="module")
def axe() -> str:
    """The program that looks for what users with other senses cannot use."""
    _, directory = installed(Path(__file__).resolve().parents[1] / "accessibility")
    return (directory / "node_modules" / "axe-core" / "axe.min.js").read_text()


def _findings(page: Any, axe: str) -> list[str]:
    page.evaluate(axe)
    found = page.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
    return [
        f"{page.title()}: {one['id']}: {node['html'][:120]}: {node['failureSummary'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_everybody_can_use_our_pages(
    browser: Any, axe: str, platform: RealPlatform, picture: Picture, scheme: str, width: int
) -> None:
    """Titles name the site and the page; axe-core has no serious finding, in both colour schemes, wide and narrow."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    seen: dict[str, str] = {}
    findings: list[str] = []

    def look(name: str) -> None:
        page.wait_for_load_state()
        seen[name] = page.title()
        picture(page, f"{name}-{scheme}-{width}")
        findings.extend(_findings(page, axe))
        fits = page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        # The table of tokens is JupyterHub's own, and wider than a telephone.
        assert fits or name == "tokens", f"{name} scrolls sideways"

    page.goto(platform.address)
    look("sign-in")
    page.click("a:has-text('Sign in')")
    look("provider")
    page.fill("input[name=username]", "nora")
    page.fill("input[type=password]", platform.accounts["nora"])
    page.keyboard.press("Enter")
    page.wait_for_url("**/hub/**")
    look("refused")
    context.clear_cookies()
    _sign_in(page, platform, "bob", lambda page, name: None)
    for name, place in {
        "home": "hub/home",
        "spawn": "hub/spawn",
        "tokens": "hub/token",
        "nothing-here": "hub/nothing",
        "not-allowed": "hub/admin",
        "clusters": "services/dask-gateway/",
    }.items():
        page.goto(f"{platform.address}{place}")
        look(name)
    text = dict.fromkeys(seen, "")
    page.goto(f"{platform.address}hub/admin")
    text["not-allowed"] = page.inner_text("main, .error")
    page.set_content(away_page("Coast & Sea", "help@example.org"))
    look("away")
    context.close()
    assert findings == []
    assert len(set(seen.values())) == len(seen), seen
    assert (
        seen["home"] == "Your servers – Tidehub"
        and seen["not-allowed"] == "Not open to your account – Tidehub"
    )
    assert seen["refused"] == "No entry – Tidehub" and seen["away"] == "One moment – Coast & Sea"
    for words in ("You are signed in as bob", "for the administrators of Tidehub", "Back to your servers"):
        assert words in text["not-allowed"]


def _sign_in(page: Any, platform: RealPlatform, name: str, picture: Picture) -> None:
    page.goto(platform.address)
    page.wait_for_selector("a:has-text('Sign in')")
    picture(page, "login-page")
    page.click("a:has-text('Sign in')")
    page.fill("input[name=username]", name)
    page.fill("input[type=password]", platform.accounts[name])
    assert "/services/identity/" in page.url, "the provider's own form, not the hub's"
    picture(page, "identity-provider")
    page.keyboard.press("Enter")
    page.wait_for_url("**/hub/**")


def _choose_and_start(page: Any, platform: RealPlatform, picture: Picture) -> None:
    page.wait_for_selector("#spawn_form")
    offered = page.eval_on_selector_all(
        "input[name=profile]", "all => all.map(one => [one.value, one.checked])"
    )
    assert offered == [["standard", True], ["minimal", False]]
    assert "JupyterLab with Dask, NumPy, pandas and xarray" in page.inner_text("#spawn_form")
    picture(page, "spawn-page")
    page.click("button:has-text('Start')")
    page.wait_for_url("**/user/alice/lab**")
    page.wait_for_selector(".jp-LauncherCard")


def _dashboard_by_its_link(page: Any, link: str, picture: Picture) -> None:
    shown = page.context.new_page()
    with shown.expect_websocket() as opened:
        shown.goto(link)
    assert opened.value.url.endswith("/status/ws")
    shown.wait_for_selector(".bk-Figure")
    picture(shown, "dashboard")
    shown.close()


def _plots_in_the_lab(page: Any, link: str, picture: Picture) -> None:
    page.fill(".dask-URLInput input", link)
    page.keyboard.press("Enter")
    for plot in ("Workers Memory", "Task Stream"):
        page.locator(".dask-DashboardListing-item").get_by_text(plot, exact=True).click()
        frame = page.frame_locator(".dask-DaskDashboard-widget iframe").last
        frame.locator(".bk-Figure").first.wait_for()
    tabs = page.locator("#jp-main-dock-panel .lm-TabBar-tab")
    tabs.filter(has_text="Untitled.ipynb").click()
    run(page, _COMPUTE, "total 1000000")
    picture(page, "notebook")
    tabs.filter(has_text="Task Stream").click()
    page.wait_for_timeout(1500)  # the plots draw every few hundred milliseconds; only the picture needs it
    picture(page, "jupyterlab-dask")
    tabs.filter(has_text="Untitled.ipynb").click()


def _a_cluster_from_the_lab(page: Any, path: str) -> None:
    """One more, beside that of the notebook at `path`, which goes on."""
    page.click("jp-button[data-command='dask:launch-cluster']")
    clusters = page.locator(".dask-ClusterListingItem").filter(has_text="/services/dask-gateway/clusters/")
    cluster = clusters.filter(has_not_text=path)
    cluster.wait_for(timeout=PATIENCE)
    cluster.get_by_text("SHUTDOWN").click()
    cluster.wait_for(state="detached")
    assert clusters.filter(has_text=path).count() == 1


def _stop(page: Any, platform: RealPlatform) -> None:
    page.goto(f"{platform.address}hub/home")
    page.click("#stop")
    page.wait_for_selector("#stop", state="hidden")
    page.wait_for_selector("#start:has-text('Start')")
    assert platform.status()["servers"] == []
