"""The gate before Dask's dashboards, in the values of the jupyterhub chart. Pure.

The hub runs it as a service in its own pod: no image but the hub's, and the hub starts it again when it ends. Browsers
come to it by the hub's proxy, at the address where without it the gateway's own proxy would show every dashboard to
everybody; of the gateway's pods none but the gate reaches a dashboard (`network`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.values import gateway
from tidehub.kubernetes.values.extra_files import Files, with_files
from tidehub.login.carried import modules_text
from tidehub.site.destinations.carried import ORDER_DASHBOARDS
from tidehub.site.model import Site

PORT = 10101
"""Of the hub's pod."""
NAME = "dask-dashboards"
"""Of the service by which notebook servers come to the gate."""
FOLDER = "/usr/local/etc/tidehub/dashboards"
PROGRAM = f"{FOLDER}/gate.py"
KEY = "tidehub-dashboards-"
"""What the names of ours begin with in `hub.extraFiles`."""
MODULES = (
    "login.log_scrub",
    "gateway.dashboards.protocol",
    "gateway.dashboards.forwarding",
    "gateway.dashboards.pages",
    "gateway.dashboards.gate",
    "gateway.dashboards.handlers",
    "gateway.dashboards.serving",
    "kubernetes.hub_pod.dashboards",
)
"""Modules of `tidehub` that travel, each after those that it imports."""
_FIX = "mount files of your own in a directory of your own"
_HERE = f"""\
# The hub's proxy reaches the gate at this pod's address. Made by tidehub.
import socket

_pod = socket.getaddrinfo(socket.gethostname(), None)[0][4][0]
for _service in c.JupyterHub.services:
    if _service["name"] == {gateway.SERVICE!r}:
        _service["url"] = "http://" + (f"[{{_pod}}]" if ":" in _pod else _pod) + ":{PORT}"
"""


def hub_values(site: Site, gateway_url: str) -> dict[str, Any]:
    """Values of the jupyterhub chart. `gateway_url` leads to the gateway inside the cluster."""
    told = {"site_name": site.site.name, "contact": site.site.contact, "gateway_url": gateway_url}
    service = {
        # Nobody's address, until the hub's configuration knows its pod's.
        "url": f"http://127.0.0.1:{PORT}",
        "command": ["python3", PROGRAM],
        "environment": {"TIDEHUB_GATE": json.dumps(told)},
        # A dashboard link must open, not ask whether it may know who you are.
        "oauth_no_confirm": True,
    }
    return {"hub": {"services": {gateway.SERVICE: service}, "extraConfig": {ORDER_DASHBOARDS: _HERE}}}


def address(site: Site, namespace: str) -> str:
    """Where the gate answers inside the cluster."""
    return f"http://{NAME}.{namespace}{site.base_path}services/{gateway.SERVICE}"


def objects(site: Site) -> list[Object]:
    """The way of notebook servers to the gate: JupyterLab's Dask panel shows the user's own dashboards."""
    if not gateway.is_gated(site):
        return []
    spec = {
        "selector": {"app": "jupyterhub", "component": "hub"},
        "ports": [{"name": "http", "port": 80, "targetPort": PORT}],
    }
    meta = {"name": NAME, "labels": {"app.kubernetes.io/managed-by": "tidehub"}}
    return [{"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}]


def with_gate(site: Site, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The chart's values, which the site's own words are in already, with the gate's program.

    Raises `TidehubError` where `overrides` mount something in its place.
    """
    if not gateway.is_gated(site):
        return values
    text = (
        "# The gate before Dask's dashboards, made by tidehub.\n"
        + modules_text(MODULES)
        + "\nfrom tidehub.kubernetes.hub_pod.dashboards import main\n\nmain()\n"
    )
    return with_files(values, Files("hub", {PROGRAM: text}, FOLDER, KEY, "tidehub's gate", _FIX))
