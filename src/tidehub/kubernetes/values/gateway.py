"""Values of the dask-gateway chart, 2022.6 to 2026.3, and what its objects are called. Pure."""

from __future__ import annotations

from typing import Any

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.values import gateway_code
from tidehub.site.charts import GATE, SCOPES, hub_chart, installed, parts
from tidehub.site.destinations.carried import ORDER_OVERRIDES, ORDER_POLICY, has_gateway
from tidehub.site.destinations.catalogue import helm_fragments
from tidehub.site.model import Site
from tidehub.site.model.deployment import Kubernetes

CHART = "dask-gateway"
SERVICE = "dask-gateway"
"""Name of the gateway as a service of the hub."""
_SERVICE_NAME = (2026, 3, 0)
"""Chart with `gateway.auth.jupyterhub.jupyterhubServiceName`; the server itself knows it since 2025.4."""


def is_installed(site: Site) -> bool:
    """Whether users get their clusters from Dask Gateway."""
    return has_gateway(site)


def is_gated(site: Site) -> bool:
    """Whether dashboards open for their owners only (`dashboards`): with older hubs they open for everybody."""
    return is_installed(site) and hub_chart(site) >= GATE


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

    Where the site has another engine: nothing with the model split, whose release is left out; with daskhub, which
    always installs the gateway, what keeps it from running.
    """
    if not is_installed(site):
        return _asleep() if _model(site) == "daskhub" else {}
    fragments = helm_fragments(site)
    found: dict[str, Any] = fragments.get("daskhub", fragments).get(CHART, {})
    gateway = found.setdefault("gateway", {})
    gateway["auth"] = {"type": "jupyterhub", "jupyterhub": _jupyterhub(site)}
    gateway["extraConfig"][ORDER_POLICY] = _policy(site)
    if site.overrides is not None and site.overrides.gateway_config is not None:
        gateway["extraConfig"][ORDER_OVERRIDES] = site.overrides.gateway_config
    # The hub's proxy leads users here: a second public address would only be a second door.
    found["traefik"] = {"service": {"type": "ClusterIP"}}
    return found


def hub_values(site: Site) -> dict[str, Any]:
    """Values of the jupyterhub chart that the gateway needs beside its registration as a service."""
    if not is_installed(site) or not _hub_has_scopes(site):
        return {}
    scopes = ["list:users", "read:servers", "read:users:groups"]
    role = {
        "description": "Knows who has a server running and their groups, to end Dask clusters without right",
        # Administrators may look at everybody's dashboards.
        "scopes": [*scopes, "read:users"] if is_gated(site) else scopes,
        "services": [SERVICE],
    }
    return {"hub": {"loadRoles": {SERVICE: role}}}


def objects(site: Site) -> list[Object]:
    """What the gateway's server may do beyond the chart's roles: count workers' pods, end what is left
    of clusters, close clusters off."""
    if not is_installed(site):
        return []
    name = f"{api_service(site)}-clusters"
    account = {"kind": "ServiceAccount", "name": api_service(site)}
    rbac = "rbac.authorization.k8s.io"
    meta = {"name": name, "labels": {"app.kubernetes.io/managed-by": "tidehub"}}
    rules = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "delete"]},
        {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["create"]},
    ]
    reference = {"apiGroup": rbac, "kind": "Role", "name": name}
    return [
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": meta, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": reference,
            "subjects": [account],
        },
    ]


def _policy(site: Site) -> str:
    return gateway_code.policy_text(
        site,
        hub_api_url=_hub_api_url(site),
        service=SERVICE,
        hub_has_scopes=_hub_has_scopes(site),
        namespace=site.kubernetes.namespace if site.kubernetes is not None else Kubernetes().namespace,
    )


def _asleep() -> dict[str, Any]:
    """The daskhub chart has no condition for its gateway: `dask-gateway.enabled: false` installs it all the same.

    Deployments without pods, and an authentication that asks for no secret.
    """
    return {
        "gateway": {"replicas": 0, "auth": {"type": "simple"}},
        "controller": {"enabled": False},
        "traefik": {"replicas": 0, "service": {"type": "ClusterIP"}},
    }


def _hub_api_url(site: Site) -> str:
    # The chart guesses without the base path. The hub's service has this name in the namespace of both models.
    return f"http://hub:8081{site.base_path}hub/api"


def _hub_has_scopes(site: Site) -> bool:
    chart = hub_chart(site)
    return not chart or chart >= SCOPES


def _jupyterhub(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = {"apiUrl": _hub_api_url(site)}
    if chart_version(site) >= _SERVICE_NAME:
        # Our authenticator asks for the scope with every version. This holds where an override puts it aside.
        found["jupyterhubServiceName"] = SERVICE
    return found


def _model(site: Site) -> str:
    return site.kubernetes.model if site.kubernetes is not None else "split"
