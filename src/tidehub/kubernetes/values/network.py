"""Who may talk to whom in the namespace: values of the jupyterhub chart, and policies of our own. Pure.

The jupyterhub chart has policies for its own pods; since 2.0 they keep notebook servers from private addresses, and
so from the gateway. The dask-gateway chart has none. A policy counts only where the cluster's network enforces it.

Labels cannot say "of the same cluster as I", so what one user's workers may reach of another's is closed here, and
each cluster is opened to itself when it is made (`api_pod/separation.py`).
"""

from __future__ import annotations

from typing import Any

from tidehub.kubernetes.objects import SERVER, Object
from tidehub.kubernetes.values import dashboards, gateway, operator
from tidehub.site.charts import hub_chart
from tidehub.site.model import Site

Labels = dict[str, str]
Rule = dict[str, Any]

NOTEBOOKS: Labels = {"app": "jupyterhub", "component": SERVER}
"""Labels of notebook servers in every version of the jupyterhub chart."""
HUB: Labels = {"app": "jupyterhub", "component": "hub"}
PROXY: Labels = {"app": "jupyterhub", "component": "proxy"}
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
METADATA = "169.254.169.254/32"
"""Where clouds tell a machine its secrets."""
SCHEDULER, DASHBOARD, SCHEDULER_API = 8786, 8787, 8788
TRAEFIK_WEB, GATEWAY_API = 8000, 8000
"""Ports of pods, which policies count, not of their services."""
EGRESS_ALLOW_RULES = (2, 0, 0)
"""jupyterhub chart with `networkPolicy.egressAllowRules`; before that the list `egress` replaces the chart's own."""
DASK = "dask.org/component"


def hub_values(site: Site) -> dict[str, Any]:
    """Values of the jupyterhub chart's own policies: the ways to what makes clusters."""
    if gateway.is_installed(site):
        # Clients speak to the gateway's proxy alone: web and schedulers' TLS share its port.
        rules = [_to_traefik(site)]
    elif operator.is_installed(site):
        rules = _notebooks_to_operator()
    else:
        return {}
    gated = gateway.is_gated(site)
    to_gate = {"to": [_pods(HUB)], "ports": _ports(dashboards.PORT)}
    from_notebooks = [*rules, to_gate] if gated else rules
    found: dict[str, Any] = {
        "singleuser": {
            "networkPolicy": {"egress": _beside_defaults(site, from_notebooks, _older_notebooks())}
        }
    }
    if gateway.is_installed(site):
        # The hub's proxy leads browsers there, and the hub ends clusters of users whose membership ended. The
        # chart opens private addresses to both, but some networks (Cilium) know pods by labels alone.
        from_hub = [*rules, _to_dashboards(site)] if gated else rules
        from_proxy = [to_gate] if gated else rules
        found["hub"] = {"networkPolicy": {"egress": _beside_defaults(site, from_hub, [_anywhere()])}}
        found["proxy"] = {
            "chp": {"networkPolicy": {"egress": _beside_defaults(site, from_proxy, [_anywhere()])}}
        }
        if gated:
            # It asks everybody who they are.
            ingress = [{"from": [_pods(PROXY), _pods(NOTEBOOKS)], "ports": _ports(dashboards.PORT)}]
            found["hub"]["networkPolicy"]["ingress"] = ingress
    return found


def gateway_values(site: Site) -> dict[str, Any]:
    """Values of the dask-gateway chart: it has none for policies in any version."""
    return {}


def objects(site: Site) -> list[Object]:
    """Policies of our own, for the pods of Dask."""
    if gateway.is_installed(site):
        return _gateway_policies(site)
    return _operator_policies() if operator.is_installed(site) else []


def gateway_pods(site: Site, component: str) -> Labels:
    """Labels of the gateway's pods: `gateway`, `controller`, `traefik`, `dask-scheduler` or `dask-worker`."""
    return {"gateway.dask.org/instance": gateway.instance(site), "app.kubernetes.io/component": component}


def _beside_defaults(site: Site, rules: list[Rule], older: list[Rule]) -> list[Rule]:
    """The rules for a chart that adds the list to its own; an older one puts it in the place of what it opened."""
    chart = hub_chart(site)
    return [*rules, *older] if chart and chart < EGRESS_ALLOW_RULES else rules


def _older_notebooks() -> list[Rule]:
    # As newer charts have it: the hub's proxy and the internet, not the cloud's inside.
    return [{"to": [_pods(PROXY)], "ports": _ports(8000)}, _internet()]


def _to_traefik(site: Site) -> Rule:
    return {"to": [_pods(gateway_pods(site, "traefik"))], "ports": _ports(TRAEFIK_WEB)}


def _to_dashboards(site: Site) -> Rule:
    return {"to": [_pods(gateway_pods(site, "dask-scheduler"))], "ports": _ports(DASHBOARD)}


def _notebooks_to_operator() -> list[Rule]:
    schedulers = {"to": [_pods({DASK: "scheduler"})], "ports": _ports(SCHEDULER, DASHBOARD)}
    # The cluster's API server is not a pod, and nobody knows its address beforehand; it mostly has a private one.
    api_server = {"to": [{"ipBlock": {"cidr": cidr}} for cidr in PRIVATE], "ports": _ports(443, 6443)}
    return [schedulers, api_server]


def _gateway_policies(site: Site) -> list[Object]:
    name = gateway.instance(site)
    traefik, api = (_pods(gateway_pods(site, part)) for part in ("traefik", "gateway"))
    scheduler, worker = (_pods(gateway_pods(site, part)) for part in ("dask-scheduler", "dask-worker"))
    dask = {
        "matchLabels": {"gateway.dask.org/instance": name},
        "matchExpressions": [
            {
                "key": "app.kubernetes.io/component",
                "operator": "In",
                "values": ["dask-scheduler", "dask-worker"],
            }
        ],
    }
    return [
        _policy(
            f"{name}-traefik",
            {"matchLabels": gateway_pods(site, "traefik")},
            # Notebooks, the hub's proxy, the hub when a membership ends; what it leads to asks for a token or TLS.
            ingress=[{"ports": _ports(TRAEFIK_WEB)}],
        ),
        _policy(
            f"{name}-api",
            {"matchLabels": gateway_pods(site, "gateway")},
            # Users come through the proxy, schedulers send their heartbeats.
            ingress=[{"from": [traefik, scheduler], "ports": _ports(GATEWAY_API)}],
        ),
        # It asks the API server only, and nothing asks it but the kubelet.
        _policy(f"{name}-controller", {"matchLabels": gateway_pods(site, "controller")}, ingress=[]),
        _policy(
            f"{name}-scheduler",
            {"matchLabels": gateway_pods(site, "dask-scheduler")},
            ingress=[
                *_ways_to_schedulers(site, traefik),
                # The server tells a scheduler how many workers it may have, and asks whether it is used.
                {"from": [api], "ports": _ports(SCHEDULER_API, DASHBOARD)},
            ],
        ),
        # Only what its own cluster's policy opens: no notebook server and no other cluster comes here.
        _policy(f"{name}-worker", {"matchLabels": gateway_pods(site, "dask-worker")}, ingress=[]),
        _policy(
            f"{name}-dask-egress",
            dask,
            egress=[
                _dns(),
                # Heartbeats.
                {"to": [api], "ports": _ports(GATEWAY_API)},
                # Data between workers, at any port; whether the other lets them in is said there.
                {"to": [scheduler, worker]},
                # Data sources, as from notebook servers: not the cloud's inside.
                _internet(),
            ],
        ),
    ]


def _ways_to_schedulers(site: Site, traefik: Rule) -> list[Rule]:
    """Clients come through the gateway's proxy; dashboards through the gate, where there is one."""
    if gateway.is_gated(site):
        return [
            {"from": [traefik], "ports": _ports(SCHEDULER)},
            {"from": [_pods(HUB)], "ports": _ports(DASHBOARD)},
        ]
    return [{"from": [traefik], "ports": _ports(SCHEDULER, DASHBOARD)}]


def _operator_policies() -> list[Object]:
    notebooks, makers = _pods(NOTEBOOKS), _pods(operator.PODS)
    scheduler, worker, job = (_pods({DASK: part}) for part in ("scheduler", "worker", "job-runner"))
    return [
        _policy(
            "dask-scheduler",
            {"matchLabels": {DASK: "scheduler"}},
            ingress=[
                # Clients and dashboards straight from notebook servers; the operator asks whom to retire.
                {"from": [notebooks, makers], "ports": _ports(SCHEDULER, DASHBOARD)},
                {"from": [worker, job], "ports": _ports(SCHEDULER)},
            ],
        ),
        # Workers exchange data at any port; labels cannot tell whose they are.
        _policy("dask-worker", {"matchLabels": {DASK: "worker"}}, ingress=[{"from": [scheduler, worker]}]),
        _policy(
            "dask-egress",
            {
                "matchExpressions": [
                    {"key": DASK, "operator": "In", "values": ["scheduler", "worker", "job-runner"]}
                ]
            },
            egress=[_dns(), {"to": [scheduler, worker]}, _internet()],
        ),
    ]


def _policy(
    name: str, pods: dict[str, Any], *, ingress: list[Rule] | None = None, egress: list[Rule] | None = None
) -> Object:
    rules = {"Ingress": ingress, "Egress": egress}
    stated = {kind: found for kind, found in rules.items() if found is not None}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "tidehub"}},
        "spec": {
            "podSelector": pods,
            "policyTypes": list(stated),
            **{kind.lower(): found for kind, found in stated.items()},
        },
    }


def _pods(labels: Labels) -> Rule:
    return {"podSelector": {"matchLabels": labels}}


def _ports(*numbers: int) -> list[Rule]:
    return [{"port": number, "protocol": "TCP"} for number in numbers]


def _dns() -> Rule:
    # To wherever a cluster has its resolver: pods, or an address of each node's own.
    return {"ports": [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]}


def _anywhere() -> Rule:
    return {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}


def _internet() -> Rule:
    return {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": [*PRIVATE, METADATA]}}]}
