"""The site's rules about users against the hub that its chart installs: what an older one cannot keep. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tidehub import release_sets
from tidehub.site import charts
from tidehub.site.charts import HUB, hub_chart
from tidehub.site.model import Site
from tidehub.site.model.overrides import replaces_login
from tidehub.site.problems import KeyPath, Problem, warning


def check_hub(site: Site) -> list[Problem]:
    """What the hub of the chosen chart would do otherwise than one machine."""
    if (
        site.kubernetes is None
        or (site.kubernetes.release_set or release_sets.DEFAULT) not in release_sets.names()
    ):
        return []
    other = replaces_login(site)
    if other is None:
        return list(_older(site, hub_chart(site)))
    what = (
        f"on Kubernetes overrides.helm replaces the login by {other}: it alone says there who may enter, and this does "
        "not count"
    )
    return [warning(what, ("login", "allow"), fix="remove authenticator_class from it, to have this login")]


def _older(site: Site, chart: tuple[int, ...]) -> Iterator[Problem]:
    if chart < charts.LOGIN_BY_GROUPS:
        yield Problem(
            "tidehub does not know how the hub of this chart decides who may enter: it might admit everybody",
            _path(site),
            expected="jupyterhub 1.0.0 or newer, or a published version of daskhub",
            fix="remove the version, and take the release set's",
        )
        return
    if chart < charts.OWN_LOGIN:
        yield warning(
            "the hub of this chart asks who may enter at each sign-in, and not again: whoever loses a membership "
            "keeps servers and clusters until then (login.refresh and login.grace do nothing), the provider's ID "
            "token is not looked at, and homes belong to whoever presents the user name",
            ("login", "refresh"),
            fix="take the release set's charts, whose hub keeps all that as one machine does",
        )
    if site.dask.engine == "gateway" and site.dask.access == "groups" and chart < charts.TOKEN_SCOPES:
        yield Problem(
            "the hub of this chart cannot keep others from starting clusters",
            ("dask", "access"),
            expected="a chart with JupyterHub 4 or newer: jupyterhub 3.0.0, daskhub 2024.1.0",
            fix="take the charts of the release set, or write access: everyone",
        )
    for index, rule in enumerate(site.login.groups):
        limits = rule.dask is not None and (rule.dask.worker or rule.dask.cluster or rule.dask.per_user)
        if limits and chart < charts.MANAGED_GROUPS:
            yield warning(
                "the hub of this chart tells Dask Gateway no memberships: this group has what everybody has",
                ("login", "groups", index, "dask"),
                fix="take the charts of the release set",
            )


def _path(site: Site) -> KeyPath:
    assert site.kubernetes is not None
    chart = "daskhub" if site.kubernetes.model == "daskhub" else HUB
    return ("kubernetes", "charts", chart) if chart in site.kubernetes.charts else ("kubernetes", "model")
