"""Who may talk to whom in the namespace: values of the jupyterhub chart, and policies of our own. Pure."""

from __future__ import annotations

from typing import Any

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.values import gateway
from tidehub.site.model import Site

USER_POD = {"app": "jupyterhub", "component": "singleuser-server"}


def hub_values(site: Site) -> dict[str, Any]:
    """Values of the jupyterhub chart's own network policies."""
    if not gateway.is_installed(site):
        return {}
    return {"singleuser": {"networkPolicy": {"egress": [_to(traefik_pods(site), 8000)]}}}


def gateway_values(site: Site) -> dict[str, Any]:
    """Values of the dask-gateway chart; it has no network policies, so none follow."""
    return {}


def objects(site: Site) -> list[Object]:
    """Network policies of our own beside the charts'."""
    return []


def traefik_pods(site: Site) -> dict[str, str]:
    """Labels of the pods of the gateway's proxy."""
    return {"gateway.dask.org/instance": gateway.instance(site), "app.kubernetes.io/component": "traefik"}


def _to(labels: dict[str, str], *ports: int) -> dict[str, Any]:
    return {
        "to": [{"podSelector": {"matchLabels": labels}}],
        "ports": [{"port": port, "protocol": "TCP"} for port in ports],
    }
