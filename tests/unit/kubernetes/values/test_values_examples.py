"""Both example sites in both models: the hub's values word by word, but for the carried code and others' parts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from value_sites import example, hub_values

from tidehub.site.model import Site

ACCESS = "access:services!service=dask-gateway"
ROLES = {
    "user": {"description": "Everybody who may enter", "scopes": ["self", ACCESS]},
    "server": {
        "description": "What a notebook server may do for its owner",
        "scopes": ["users:activity!user", "access:servers!server", ACCESS],
    },
    "dask-gateway": {
        "description": "Knows who has a server running and their groups, to end Dask clusters without right",
        "scopes": ["list:users", "read:servers", "read:users:groups", "read:users"],
        "services": ["dask-gateway"],
    },
}
BACKGROUND = {"hook": {"enabled": False}, "continuous": {"enabled": True}}
NO_SCHEDULER = {"userScheduler": {"enabled": False}, "userPlaceholder": {"enabled": False}}
PROVIDER = "https://{}/auth/realms/egi/protocol/openid-connect"


OLDER_PAGES = [
    "tidehub-page-404.html",
    "tidehub-page-admin.html",
    "tidehub-page-error.html",
    "tidehub-page-home.html",
    "tidehub-page-login.html",
    "tidehub-page-logout.html",
    "tidehub-page-not_running.html",
    "tidehub-page-oauth.html",
    "tidehub-page-page.html",
    "tidehub-page-spawn.html",
    "tidehub-page-spawn_pending.html",
    "tidehub-page-stop_pending.html",
    "tidehub-page-token.html",
]
PAGES = sorted([*OLDER_PAGES, "tidehub-page-accept-share.html"])
FOLDER = ["/usr/local/etc/tidehub/pages"]
END_WORDS = (
    "A server that is idle for 1 h is stopped. A running cell keeps it alive, even while the browser is closed."
    " Files stay."
)
NOTEBOOK_FILES = [
    "tidehub-notebook-busy_kernels.py",
    "tidehub-notebook-dask_clusters.py",
    "tidehub-notebook-dask_dashboards.py",
    "tidehub-notebook-jupyter_config.py",
    "tidehub-notebook-pod_server.py",
    "tidehub-notebook-tidehub-notebook.json",
    "tidehub-notebook-tidehub-server.json",
]


GATED = ["0-tidehub-dashboards", "0-tidehub-homes", "0-tidehub-login", "0-tidehub-proxy"]


def gate(service: str, base: str, name: str) -> dict[str, Any]:
    """The hub's services: the gate before dashboards, which the hub runs in its pod."""
    told = {
        "site_name": name,
        "contact": None,
        "gateway_url": f"http://{service}.daskhub{base}services/dask-gateway",
    }
    return {
        "dask-gateway": {
            "url": "http://127.0.0.1:10101",
            "display": False,
            "command": ["python3", "/usr/local/etc/tidehub/dashboards/gate.py"],
            "environment": {"TIDEHUB_GATE": json.dumps(told)},
            "oauth_no_confirm": True,
        }
    }


def joined(service: str, base: str, gated: bool = True) -> dict[str, str]:
    guard = {"TIDEHUB_DASHBOARDS": f"http://dask-dashboards.daskhub{base}services/dask-gateway"}
    return {
        **(guard if gated else {}),
        "DASK_GATEWAY__ADDRESS": f"http://{service}.daskhub{base}services/dask-gateway",
        "DASK_GATEWAY__PROXY_ADDRESS": f"gateway://{service}.daskhub:80",
        "DASK_GATEWAY__PUBLIC_ADDRESS": f"{base}services/dask-gateway/",
        "DASK_GATEWAY__AUTH__TYPE": "jupyterhub",
        "DASK_LABEXTENSION__FACTORY__MODULE": "dask_gateway",
        "DASK_LABEXTENSION__FACTORY__CLASS": "GatewayCluster",
    }


def older_login(host: str, callback: str, client: str, scope: list[str], **more: Any) -> dict[str, Any]:
    address = PROVIDER.format(host)
    return {
        "JupyterHub": {"authenticator_class": "generic-oauth"},
        "GenericOAuthenticator": {
            "client_id": client,
            "scope": scope,
            "oauth_callback_url": callback,
            "authorize_url": f"{address}/auth",
            "token_url": f"{address}/token",
            "userdata_url": f"{address}/userinfo",
            "login_service": "EGI Check-In",
            "allowed_groups": ["tidehub: may enter"],
            "admin_groups": ["tidehub: is an administrator"],
            **more,
        },
    }


def without_others(values: dict[str, Any]) -> dict[str, Any]:
    """Without exposure and network policies, which have tests of their own, and without the texts of code and files."""
    for section, entries in (("hub", "extraConfig"), ("hub", "extraFiles"), ("singleuser", "extraFiles")):
        if entries in values[section]:
            values[section][entries] = sorted(values[section][entries])
    for section in ("hub", "singleuser", "proxy"):
        values.get(section, {}).pop("networkPolicy", None)
    return {key: value for key, value in values.items() if key not in ("ingress", "proxy", "httpRoute")}


PROTOCOAST_NOTEBOOKS = {
    "defaultUrl": "/lab",
    "extraFiles": NOTEBOOK_FILES,
    "cpu": {"guarantee": 1, "limit": 2},
    "memory": {"guarantee": "5G", "limit": "10G"},
    "extraResource": {
        "guarantees": {"ephemeral-storage": "4Gi"},
        "limits": {"ephemeral-storage": "8Gi"},
    },
    "storage": {
        "type": "dynamic",
        "capacity": "50Gi",
        "dynamic": {"storageClass": "csi-cinder-sc-delete"},
    },
    "image": {"name": "quay.io/globalcoast/protocoast-notebook", "tag": "main"},
    "profileList": [
        {
            "display_name": "ProtoCoast - main",
            "slug": "protocoast-main",
            "default": True,
            "description": "Stable production version",
            "kubespawner_override": {"image": "quay.io/globalcoast/protocoast-notebook:main"},
        },
        {
            "display_name": "ProtoCoast - develop",
            "slug": "protocoast-develop",
            "default": False,
            "description": "Development version with latest features",
            "kubespawner_override": {"image": "quay.io/globalcoast/protocoast-notebook:develop"},
        },
    ],
}
PROTOCOAST_DATABASE = {
    "type": "sqlite-pvc",
    "pvc": {"storage": "1Gi", "storageClassName": "csi-cinder-sc-delete"},
}


def test_protocoast_split() -> None:
    assert without_others(hub_values(example("protocoast"))) == {
        "hub": {
            "baseUrl": "/",
            "config": {"JupyterHub": {"authenticator_class": "generic-oauth"}},
            "db": PROTOCOAST_DATABASE,
            "extraConfig": GATED,
            "extraFiles": ["tidehub-dashboards-gate.py", *PAGES],
            "loadRoles": ROLES,
            "services": gate("traefik-dask-gateway", "/", "ProtoCoast"),
            "templatePaths": FOLDER,
            "templateVars": {"site_name": "ProtoCoast", "end_words": END_WORDS},
        },
        "singleuser": {**PROTOCOAST_NOTEBOOKS, "extraEnv": joined("traefik-dask-gateway", "/")},
        "cull": {"enabled": True, "timeout": 3600},
        "prePuller": BACKGROUND,
        "scheduling": NO_SCHEDULER,
    }


def test_protocoast_daskhub() -> None:
    values = hub_values(example("protocoast", "model: split", "model: daskhub"))
    service = "traefik-daskhub-dask-gateway"
    login = older_login(
        "aai-demo.egi.eu",
        "https://protocoast.vm.fedcloud.eu/hub/oauth_callback",
        "protocoast-hub",
        ["openid", "profile", "email", "entitlements"],
        allow_all=False,
        allow_existing_users=False,
    )
    assert without_others(values) == {
        "hub": {
            "baseUrl": "/",
            "config": login,
            "db": PROTOCOAST_DATABASE,
            "extraConfig": GATED,
            "extraFiles": ["tidehub-dashboards-gate.py", *OLDER_PAGES],
            "loadRoles": ROLES,
            "services": gate(service, "/", "ProtoCoast"),
            "templatePaths": FOLDER,
            "templateVars": {"site_name": "ProtoCoast", "end_words": END_WORDS},
        },
        "singleuser": {**PROTOCOAST_NOTEBOOKS, "extraEnv": joined(service, "/")},
        "cull": {"enabled": True, "timeout": 3600},
        "prePuller": BACKGROUND,
        "scheduling": NO_SCHEDULER,
    }


def pangeo_notebooks(service: str, image: str, gated: bool = True) -> dict[str, Any]:
    return {
        "defaultUrl": "/lab",
        "extraFiles": NOTEBOOK_FILES,
        "cpu": {"guarantee": 0.5, "limit": 2},
        "memory": {"guarantee": "1G", "limit": "4G"},
        "storage": {"type": "dynamic", "capacity": "10Gi"},
        "image": {"name": "pangeo/ml-notebook", "tag": "latest"},
        "extraEnv": {
            **joined(service, "/jupyterhub/", gated),
            "DASK_GATEWAY__CLUSTER__OPTIONS__IMAGE": image,
        },
        "profileList": [
            {
                "display_name": "Pangeo machine learning",
                "slug": "pangeo-machine-learning",
                "default": True,
                "description": "Pangeo notebook with machine learning libraries",
                "kubespawner_override": {"image": "pangeo/ml-notebook:latest"},
            }
        ],
    }


def test_pangeo_daskhub() -> None:
    service = "traefik-daskhub-dask-gateway"
    login = older_login(
        "aai-dev.egi.eu",
        "https://pangeo.vm.fedcloud.eu/jupyterhub/hub/oauth_callback",
        "pangeo-hub",
        ["openid", "email", "profile", "eduperson_entitlement"],
    )
    assert without_others(hub_values(example("pangeo"))) == {
        "hub": {
            "baseUrl": "/jupyterhub/",
            "config": login,
            "db": {"type": "sqlite-pvc", "pvc": {"storage": "1Gi"}},
            "extraConfig": ["0-tidehub-homes", "0-tidehub-login", "0-tidehub-proxy"],
            "services": {"dask-gateway": {"url": f"http://{service}.daskhub", "display": False}},
            "templateVars": {"site_name": "Pangeo"},
        },
        "singleuser": pangeo_notebooks(service, "{JUPYTER_IMAGE_SPEC}", gated=False),
        "cull": {"enabled": True, "timeout": 3600},
        "prePuller": BACKGROUND,
        "scheduling": NO_SCHEDULER,
    }


def test_pangeo_split() -> None:
    wanted = example("pangeo", "model: daskhub\n  charts: {daskhub: 2022.6.0}", "model: split")
    assert without_others(hub_values(wanted)) == {
        "hub": {
            "baseUrl": "/jupyterhub/",
            "config": {"JupyterHub": {"authenticator_class": "generic-oauth"}},
            "db": {"type": "sqlite-pvc", "pvc": {"storage": "1Gi"}},
            "extraConfig": GATED,
            "extraFiles": ["tidehub-dashboards-gate.py", *PAGES],
            "loadRoles": ROLES,
            "services": gate("traefik-dask-gateway", "/jupyterhub/", "Pangeo"),
            "templatePaths": FOLDER,
            "templateVars": {"site_name": "Pangeo", "end_words": END_WORDS},
        },
        "singleuser": pangeo_notebooks("traefik-dask-gateway", "{{JUPYTER_IMAGE_SPEC}}"),
        "cull": {"enabled": True, "timeout": 3600},
        "prePuller": BACKGROUND,
        "scheduling": NO_SCHEDULER,
    }


@pytest.mark.parametrize(
    "wanted",
    [
        example("protocoast"),
        example("protocoast", "model: split", "model: split\n  charts: {jupyterhub: 3.3.8}"),
        example("pangeo"),
    ],
)
def test_the_same_site_gives_the_same_values(wanted: Site) -> None:
    assert hub_values(wanted) == hub_values(wanted)
    assert str(hub_values(wanted)) == str(hub_values(wanted))
