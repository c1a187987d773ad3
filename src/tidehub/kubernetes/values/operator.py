"""The engine `operator`: the Dask operator, and what notebooks may ask of it. Pure."""

from __future__ import annotations

from typing import Any

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.releases import Release
from tidehub.site.model import Site

CHART = "dask-kubernetes-operator"
RELEASE = "dask-operator"
SERVICE_ACCOUNT = "daskkubernetes"
"""The name that the daskhub chart and the Pangeo guide gave the account of people's pods."""
RESOURCES = ("daskclusters", "daskworkergroups", "daskjobs", "daskautoscalers")
GROUP = "kubernetes.dask.org"


def is_installed(site: Site) -> bool:
    """Whether people make their clusters through the Dask operator."""
    return site.dask.engine == "operator"


def release(site: Site) -> Release | None:
    """The operator's release; None where the site has another engine."""
    if not is_installed(site):
        return None
    return Release(RELEASE, CHART, chart_version(site), {"rbac": {"create": True, "cluster": False}})


def chart_version(site: Site) -> str:
    """Version of the operator's chart, from the site's release set."""
    from tidehub import release_sets

    name = site.kubernetes.release_set if site.kubernetes is not None else None
    return release_sets.release(name or release_sets.DEFAULT).versions.charts[CHART]


def objects(site: Site) -> list[Object]:
    """What people's pods may do in the namespace; nothing where the site has another engine."""
    if not is_installed(site):
        return []
    account = {"kind": "ServiceAccount", "name": SERVICE_ACCOUNT}
    return [
        _object("v1", "ServiceAccount"),
        _object("rbac.authorization.k8s.io/v1", "Role", rules=_rules()),
        _object(
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": SERVICE_ACCOUNT},
            subjects=[account],
        ),
    ]


def hub_values(site: Site) -> dict[str, Any]:
    """Values of the jupyterhub chart for people's pods; empty where the site has another engine."""
    if not is_installed(site):
        return {}
    return {"singleuser": {"serviceAccountName": SERVICE_ACCOUNT}}


def _rules() -> list[dict[str, Any]]:
    return [
        {"apiGroups": [GROUP], "resources": list(RESOURCES), "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["pods", "pods/log", "services"], "verbs": ["get", "list", "watch"]},
    ]


def _object(version: str, kind: str, **fields: Any) -> Object:
    labels = {"app.kubernetes.io/managed-by": "tidehub"}
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": SERVICE_ACCOUNT, "labels": labels},
        **fields,
    }
