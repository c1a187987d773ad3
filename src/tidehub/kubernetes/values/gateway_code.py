"""The policy of Dask clusters as text for the configuration of an unchanged dask-gateway image. Pure.

The charts have no values for it. `gateway.extraConfig` of the dask-gateway chart is Python that the server executes
at its start, entry by entry in the order of their names. The text carries the very modules that one machine uses and
the part of the site that they read; no secret is in it.
"""

from __future__ import annotations

from typing import Any

from tidehub.login.carried import modules_text
from tidehub.login.plain import policy_of
from tidehub.site.model import Site

MODULES = (
    "errors",
    "login.rule",
    "login.plain",
    "site.units",
    "site.images",
    "gateway.limits",
    "gateway.options",
    "gateway.totals",
    "login.entitled",
    "gateway.authenticator",
    "gateway.reaper",
    "gateway.choices",
    "kubernetes.api_pod.image_choices",
    "kubernetes.api_pod.separation",
    "kubernetes.api_pod.leftovers",
    "gateway.dashboards.protocol",
    "gateway.dashboards.telling",
    "kubernetes.api_pod.backend",
)
"""Modules of `tidehub` that travel, each after those that it imports."""

_HEAD = "# Dask clusters of this site, made by tidehub from the site file. Changes belong there.\n"
_TAIL = """
from tidehub.gateway.authenticator import HubAuthenticator
from tidehub.gateway.choices import cluster_options
from tidehub.kubernetes.api_pod.backend import SiteBackend, SiteClusterConfig
from tidehub.kubernetes.api_pod.image_choices import ImageOptions
from tidehub.login.plain import plain_site

_site = plain_site(_SITE)
c.DaskGateway.authenticator_class = HubAuthenticator
c.DaskGateway.backend_class = SiteBackend
c.SiteBackend.cluster_config_class = SiteClusterConfig
c.SiteBackend.cluster_options = cluster_options(_site, ImageOptions)
c.SiteBackend.site = _site
"""


def policy_text(site: Site, *, hub_api_url: str, service: str, hub_has_scopes: bool, namespace: str) -> str:
    """Python text that makes the site's rules in a gateway's configuration; it needs `c` there.

    `service` is the gateway's name as a service of the hub. The token comes from the chart, as JUPYTERHUB_API_TOKEN.
    """
    parts = [_HEAD, modules_text(MODULES), f"_SITE = {site_data(site)!r}\n", _TAIL]
    parts += [
        f"c.HubAuthenticator.jupyterhub_api_url = {hub_api_url!r}\n",
        f"c.HubAuthenticator.jupyterhub_service_name = {service!r}\n",
        f"c.HubAuthenticator.hub_has_scopes = {hub_has_scopes!r}\n",
        f"c.SiteBackend.hub_api_url = {hub_api_url!r}\n",
        f"c.SiteBackend.namespace = {namespace!r}\n",
    ]
    if hub_has_scopes:
        # A hub without roles would have to make the gateway an administrator for it.
        parts.append('import os\n\nc.SiteBackend.reaper_token = os.environ.get("JUPYTERHUB_API_TOKEN", "")\n')
    return "".join(parts)


def site_data(site: Site) -> dict[str, Any]:
    """What the carried modules read of the site, as plain values."""
    policy = policy_of(site)
    for entry, profile in zip(policy["notebooks"]["profiles"], site.notebooks.profiles, strict=True):
        entry["image"] = profile.image
    return {**policy, "site": {"name": site.site.name, "contact": site.site.contact}}
