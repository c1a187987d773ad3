"""Values of the dask-gateway chart, 2022.6 to 2026.3, and what its objects are called. Pure."""

from __future__ import annotations

from typing import Any

from tidehub.site.charts import GATEWAY_BY_SCOPE, installed, parts
from tidehub.site.destinations import helm_fragments
from tidehub.site.model import Site

CHART = "dask-gateway"
SERVICE = "dask-gateway"
"""Name of the gateway as a service of the hub."""


def is_installed(site: Site) -> bool:
    """Whether people get their clusters from Dask Gateway."""
    return site.dask.engine == "gateway"


def chart_version(site: Site) -> tuple[int, ...]:
    """Version of the dask-gateway chart that the site installs, for comparing; empty where it is not known."""
    from tidehub import release_sets

    if site.kubernetes is None:
        return parts(release_sets.release().versions.charts[CHART])
    release = release_sets.release(site.kubernetes.release_set or release_sets.DEFAULT).versions.charts
    pinned = {str(chart): version for chart, version in site.kubernetes.charts.items()}
    return parts(installed(site.kubernetes.model, pinned, release)[1] or "")


def instance(site: Site) -> str:
    """The chart's full name, which its objects and its label `gateway.dask.org/instance` carry."""
    return "daskhub-dask-gateway" if _model(site) == "daskhub" else "dask-gateway"


def traefik_service(site: Site) -> str:
    """Name of the service before the gateway's proxy, web and scheduler traffic alike on its port 80."""
    return f"traefik-{instance(site)}"


def api_service(site: Site) -> str:
    """Name of the service before the gateway's server, on port 8000."""
    return f"api-{instance(site)}"


def values(site: Site) -> dict[str, Any]:
    """Values of the dask-gateway chart, to be nested below its name with the daskhub chart. No secret is in them.

    Empty where the site has another engine.
    """
    if not is_installed(site):
        return {}
    fragments = helm_fragments(site)
    found: dict[str, Any] = fragments.get("daskhub", fragments).get(CHART, {})
    gateway = found.setdefault("gateway", {})
    gateway["auth"] = {"type": "jupyterhub", "jupyterhub": _jupyterhub(site)}
    # The hub's proxy leads people here: a second public address would only be a second door.
    found["traefik"] = {"service": {"type": "ClusterIP"}}
    return found


def _jupyterhub(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = {"apiUrl": f"http://hub:8081{site.base_path}hub/api"}
    if chart_version(site) >= GATEWAY_BY_SCOPE:
        # Without it every token of the hub opens the gateway, whatever its scopes.
        found["jupyterhubServiceName"] = SERVICE
    return found


def _model(site: Site) -> str:
    return site.kubernetes.model if site.kubernetes is not None else "split"
