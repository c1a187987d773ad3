"""A site as releases with their values and the objects beside them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tidehub import program, release_sets
from tidehub.errors import TidehubError
from tidehub.kubernetes import exposure
from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.releases import Platform, Release
from tidehub.kubernetes.values import (
    dashboards,
    gateway,
    hub,
    hub_code,
    hub_pages,
    network,
    notebook_files,
    operator,
)
from tidehub.kubernetes.values.merge import merge, remove
from tidehub.login.endpoints import Endpoints
from tidehub.site.charts import NEWEST_DASKHUB, TOKEN_SCOPES, hub_chart
from tidehub.site.destinations import carried
from tidehub.site.model import Site
from tidehub.site.model.deployment import Kubernetes
from tidehub.site.model.overrides import Chart, Overrides, replaces_login

DASKHUB: Chart = "daskhub"


def platform(
    site: Site,
    secrets: Mapping[str, Mapping[str, Any]],
    *,
    addresses: Endpoints | None = None,
    release_set: str | None = None,
) -> Platform:
    """The site as it is installed in its namespace.

    `secrets` is `secrets.charts.chart_values(...)`: chart to values whose leaves are `Secret`s. `addresses` are the
    identity provider's by discovery; EGI Check-In's are known without. `release_set` counts before the site's own;
    versions below `kubernetes.charts` count before both. Raises `TidehubError` for a site that cannot be there.
    """
    site = _placed(site, release_set)
    assert site.kubernetes is not None
    check(site)
    return Platform(
        site=site,
        namespace=site.kubernetes.namespace,
        release_set=site.kubernetes.release_set or release_sets.DEFAULT,
        model=site.kubernetes.model,
        releases=tuple(_releases(site, secrets, addresses)),
        objects=tuple(_objects(site)),
    )


def check(site: Site) -> None:
    """Raises `TidehubError` for a site that Kubernetes cannot have, however its values were written."""
    if site.site.url is None:
        raise TidehubError(
            "the site has no address (site.url), and users reach a cluster by none but a public one",
            expected="https:// with the name that leads to the cluster",
            fix="add `url` to the section `site:`",
        )
    if site.login.provider == "demo" and not replaces_login(site):
        raise TidehubError(
            "the demo provider runs on one machine only: its users and passwords are made up",
            expected="login.provider: egi-check-in or oidc",
            fix=f"register the site with an identity provider; `{program.command('up')}` tries the site out "
            "without one",
        )
    hub_code.carries_login(site)
    if carried.keeps_clusters(site) and hub_chart(site) < TOKEN_SCOPES:
        raise TidehubError(
            "dask.access is groups, and the hub of this chart cannot keep others from starting clusters",
            expected="a chart with JupyterHub 4 or newer: jupyterhub 3.0.0, daskhub 2024.1.0",
            fix="take the charts of the release set, or write dask.access: everyone",
        )


def chart_version(site: Site, chart: Chart) -> str:
    """Version of a chart that the site installs: the site's own pin, else the release set's."""
    kubernetes = site.kubernetes or Kubernetes()
    if chart in kubernetes.charts:
        return kubernetes.charts[chart]
    if chart == DASKHUB:
        return NEWEST_DASKHUB
    return release_sets.release(kubernetes.release_set or release_sets.DEFAULT).versions.charts[chart]


def _placed(site: Site, release_set: str | None) -> Site:
    """The site with a section `kubernetes`, and the release set in it that counts."""
    kubernetes = site.kubernetes or Kubernetes()
    name = release_set or kubernetes.release_set
    if name is not None:
        release_sets.release(name)
    return site.model_copy(update={"kubernetes": kubernetes.model_copy(update={"release_set": name})})


def _releases(
    site: Site, secrets: Mapping[str, Mapping[str, Any]], addresses: Endpoints | None
) -> Iterator[Release]:
    assert site.kubernetes is not None
    hub_values = _with_overrides(site, "jupyterhub", hub.values(site, addresses))
    hub_values = hub_pages.with_pages(site, hub_values)
    hub_values = dashboards.with_gate(site, hub_values)
    hub_values = notebook_files.with_files_of_servers(site, hub_values)
    _check_profiles(site, hub_values)
    hub_secrets = hub.secrets(site, secrets.get("jupyterhub", {}))
    gateway_values = _with_overrides(
        site, "dask-gateway", merge(gateway.values(site), network.gateway_values(site))
    )
    gateway_secrets = merge(secrets.get("dask-gateway", {}))
    if not gateway.is_installed(site):
        remove(gateway_secrets, "gateway", "auth", "jupyterhub", "apiToken")
    if site.kubernetes.model == "daskhub":
        values = merge(
            {"jupyterhub": hub_values, "dask-gateway": gateway_values}, _overrides(site).helm.of(DASKHUB)
        )
        hidden = merge({"jupyterhub": hub_secrets, "dask-gateway": gateway_secrets}, secrets.get(DASKHUB, {}))
        yield Release(DASKHUB, DASKHUB, chart_version(site, DASKHUB), values, hidden)
    else:
        yield Release("jupyterhub", "jupyterhub", chart_version(site, "jupyterhub"), hub_values, hub_secrets)
        if gateway.is_installed(site):
            version = chart_version(site, "dask-gateway")
            yield Release("dask-gateway", "dask-gateway", version, gateway_values, gateway_secrets)
    operators = operator.release(site)
    if operators is not None:
        yield operators


def _with_overrides(site: Site, chart: Chart, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values with those that the site adds in its own words. Its Python is among them already."""
    return merge(values, _overrides(site).helm.of(chart))


def _check_profiles(site: Site, values: Mapping[str, Any]) -> None:
    """With rules about who may start what, a list of profiles of the site's own words must be the same profiles."""
    if not carried.has_choices(site):
        return
    listed = values["singleuser"].get("profileList")
    slugs = (
        {entry.get("slug") for entry in listed if isinstance(entry, Mapping)}
        if isinstance(listed, list)
        else {}
    )
    known = {profile.slug for profile in site.notebooks.profiles}
    if slugs != known:
        raise TidehubError(
            "overrides.helm replaces singleuser.profileList with profiles that the site's rules do not know",
            expected=f"entries with slug: {', '.join(sorted(known))}",
            fix="state the profiles below notebooks.profiles, or remove the rules about them",
        )


def _overrides(site: Site) -> Overrides:
    return site.overrides or Overrides()


def _objects(site: Site) -> Iterator[Object]:
    yield from gateway.objects(site)
    yield from operator.objects(site)
    yield from dashboards.objects(site)
    yield from network.objects(site)
    yield from exposure.objects(site)
