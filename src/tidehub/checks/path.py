"""The whole path of a user, in order."""

from __future__ import annotations

from collections.abc import Callable

from tidehub.checks import dask, login, server
from tidehub.checks.browser import Browser
from tidehub.checks.journey import Journey, Step, take
from tidehub.checks.report import Phase, Report
from tidehub.checks.target import Target


def _without_login(journey: Journey) -> str:
    return "needs a login, and a token was given" if journey.target.token else ""


STEPS: tuple[Step, ...] = (
    Step("front", "front page", login.front_page, 30, ("hub", "proxy", "supervisor")),
    Step("login", "sign in", login.log_in, 90, ("hub", "identity")),
    Step("spawn_page", "spawn page", server.spawn_page, 30, skip=_without_login),
    Step("spawn", "start a server", server.start_server, 600, ("hub", "servers")),
    Step("lab", "JupyterLab", server.open_lab, 60, ("hub", "servers")),
    Step("kernel", "kernel", server.start_kernel, 60, ("servers",)),
    Step("cell", "cell", server.run_cell, 60, ("servers",)),
    Step("cluster", "Dask cluster", dask.create_cluster, 240, ("gateway", "clusters"), dask.without_dask),
    Step(
        "compute",
        "scale and compute",
        dask.compute,
        dask.COMPUTE_DEADLINE,
        ("gateway", "clusters"),
        dask.without_dask,
    ),
    Step(
        "dashboard", "dashboard", dask.open_dashboard, 60, ("dashboards", "gateway-proxy"), dask.without_dask
    ),
    Step(
        "cluster_stop",
        "stop the cluster",
        dask.stop_cluster,
        90,
        ("gateway", "clusters"),
        dask.without_dask,
        leftover=lambda journey: bool(journey.cluster),
    ),
    Step(
        "server_stop",
        "stop the server",
        server.stop_server,
        90,
        ("hub", "servers"),
        leftover=lambda journey: journey.server_started,
    ),
    Step(
        "logout",
        "sign out",
        login.log_out,
        30,
        ("hub", "identity"),
        skip=_without_login,
        leftover=lambda journey: journey.signed_in or bool(journey.target.token),
    ),
)


async def check_path(
    target: Target,
    *,
    profile: str | None = None,
    user: str | None = None,
    tell: Callable[[Phase], None] = lambda phase: None,
) -> Report:
    """Goes a user's path through the front door of `target`; `tell` gets each phase as it ends.

    `profile` is a slug, `user` the name of a demo account; by default the default profile and the first
    member without a server.
    """
    async with Browser(target.address, token=target.token, certificate=target.certificate) as browser:
        journey = Journey(target, browser, profile=profile, wanted_user=user)
        return await take(journey, STEPS, tell)
