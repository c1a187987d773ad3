"""JupyterLab in a real browser: a notebook that makes a Dask cluster, and the Dask panel beside it."""

from __future__ import annotations

from typing import Any

PATIENCE = 40_000
"""Milliseconds that the page may take for one step."""

_CLUSTER = """\
from dask_gateway import GatewayCluster
cluster = GatewayCluster()
cluster.scale(2)
client = cluster.get_client()
client.wait_for_workers(2)
print("dashboard", cluster.dashboard_link)"""

_DASHBOARD_TABS = (
    "#jp-main-dock-panel .lm-TabBar-tab:not(:has-text('Untitled.ipynb')):not(:has-text('Launcher'))"
)


def compute_in_a_notebook(page: Any) -> str:
    page.click(".jp-LauncherCard[data-category=Notebook]")
    page.wait_for_selector(".jp-Notebook .cm-content")
    # Before the kernel is there, JupyterLab forgets a cell that is run.
    page.get_by_text("| Idle").wait_for()
    shown = run(page, _CLUSTER, "dashboard /")
    return next(line.split()[1] for line in shown.splitlines() if line.startswith("dashboard "))


def run(page: Any, code: str, expected: str) -> str:
    """Puts code into the notebook's active cell, runs it, and returns its output once `expected` is in it."""
    cell = page.locator(".jp-Notebook .jp-CodeCell").last
    cell.locator(".cm-content").click()
    page.wait_for_selector(".jp-Notebook.jp-mod-editMode")
    # Pasted, not typed: the editor would close brackets and indent by itself.
    page.keyboard.insert_text(code)
    cell.get_by_text(code.splitlines()[-1].split("(")[0]).last.wait_for()
    page.keyboard.press("Shift+Enter")
    output = page.locator(".jp-OutputArea-output").filter(has_text=expected).last
    output.wait_for(timeout=PATIENCE)
    return str(output.inner_text())


def found_by_the_panel(page: Any, path: str) -> None:
    """A cluster made in a notebook: the panel's search, its list, and the button below a client."""
    page.click("[data-id=dask-dashboard-launcher]")
    address = page.locator(".dask-URLInput input")
    plots = page.locator(".dask-DashboardListing-item")
    opened = page.locator(".dask-DaskDashboard-widget")
    page.click("jp-button[title='Auto-detect dashboard URL']")
    plots.first.wait_for()
    assert address.input_value() == path.removesuffix("status")
    listed = page.locator(".dask-ClusterListingItem").filter(has_text=path)
    listed.wait_for()
    listed.get_by_text("Number of Workers:").filter(has_text="2").wait_for()
    address.fill("")
    run(page, "client", "Launch dashboard in JupyterLab")
    page.get_by_role("button", name="Launch dashboard in JupyterLab").click()
    for place in range(3):  # the extension's usual layout: task stream, memory of the workers, progress
        opened.nth(place).locator("iframe").content_frame.locator(".bk-Figure").first.wait_for()
    while page.locator(_DASHBOARD_TABS).count():
        page.locator(_DASHBOARD_TABS).first.locator(".lm-TabBar-tabCloseIcon").click()
    listed.click()
    plots.get_by_text("Workers Memory", exact=True).click()
    opened.last.locator("iframe").content_frame.locator(".bk-Figure").first.wait_for()
    page.locator(_DASHBOARD_TABS).first.locator(".lm-TabBar-tabCloseIcon").click()
