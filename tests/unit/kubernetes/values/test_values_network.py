"""Who may talk to whom, asked of the policies as a network would apply them, the charts' own among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from policy_matcher import Network, Outside, Pod
from upstream_charts import pod_templates, rendered
from value_sites import example

from tidehub.kubernetes.api_pod.separation import cluster_policy
from tidehub.kubernetes.values import gateway, network
from tidehub.kubernetes.values.dashboards import PORT as GATE
from tidehub.site.model import Site

RELEASES = {"protocoast": "dask-gateway", "pangeo": "daskhub-dask-gateway"}
INTERNET, INSIDE, METADATA = Outside("193.0.6.139"), Outside("192.168.7.7"), Outside("169.254.169.254")
RESOLVER = Pod({"k8s-app": "kube-dns"}, namespace={"kubernetes.io/metadata.name": "kube-system"})
STRANGER = Pod({"app": "else"}, namespace={"kubernetes.io/metadata.name": "else"})


def dask(site: Site, component: str, cluster: str) -> Pod:
    """A pod as dask-gateway's controller labels it (`get_labels`), held against the real one below."""
    labels = {
        "app.kubernetes.io/name": "dask-gateway",
        "app.kubernetes.io/component": component,
        "gateway.dask.org/instance": gateway.instance(site),
        "gateway.dask.org/cluster": cluster,
    }
    return Pod(labels, {"scheduler": 8786, "dashboard": 8787, "api": 8788})


def hub_pod(site: Site, component: str, **ports: int) -> Pod:
    name = "daskhub" if site.kubernetes is not None and site.kubernetes.model == "daskhub" else "jupyterhub"
    labels = {"app": "jupyterhub", "release": name, "component": component}
    labels |= {"app.kubernetes.io/name": "jupyterhub", "app.kubernetes.io/instance": name}
    labels |= {"app.kubernetes.io/component": component}
    if component == "singleuser-server":
        labels["hub.jupyter.org/network-access-hub"] = "true"
    return Pod(labels, ports)


class World:
    """The pods of a platform with two users' clusters, and the policies of everything."""

    def __init__(self, name: str, folder: Path) -> None:
        site = self.site = example(name)
        self.gated = gateway.is_gated(site)
        self.gateway = RELEASES[name]
        objects = rendered(site, folder)
        self.pods = {
            name: pod for release in objects.values() for name, pod in pod_templates(release).items()
        }
        policies = [one for release in objects.values() for one in release if one["kind"] == "NetworkPolicy"]
        policies += network.objects(site)
        policies += [cluster_policy(self.cluster(owner)) for owner in ("ann", "bob")]
        self.networks = [Network(tuple(policies), blocks_mean_pods=one) for one in (True, False)]
        self.notebook = hub_pod(site, "singleuser-server", **{"notebook-port": 8888})
        self.other_notebook = Pod(
            self.notebook.labels | {"hub.jupyter.org/username": "bob"}, self.notebook.ports
        )
        self.hub, self.proxy = self.deployed("hub"), self.deployed("proxy")
        self.traefik = self.deployed(f"traefik-{self.gateway}")
        self.api = self.deployed(f"api-{self.gateway}")
        self.controller = self.deployed(f"controller-{self.gateway}")
        self.scheduler, self.worker, self.second = (
            dask(site, part, "ann") for part in ("dask-scheduler", "dask-worker", "dask-worker")
        )
        self.others_scheduler, self.others_worker = (
            dask(site, part, "bob") for part in ("dask-scheduler", "dask-worker")
        )

    def deployed(self, name: str) -> Pod:
        template = self.pods[name]
        ports = {
            port["name"]: port["containerPort"]
            for container in template["spec"]["containers"]
            for port in container.get("ports") or []
        }
        return Pod(template["metadata"]["labels"], ports)

    def cluster(self, owner: str) -> dict[str, Any]:
        meta = {"name": owner, "uid": "1", "labels": dask(self.site, "", owner).labels}
        return {"apiVersion": "gateway.dask.org/v1alpha1", "kind": "DaskCluster", "metadata": meta}

    def verdict(self, source: Any, target: Any, port: int, protocol: str = "TCP") -> bool | None:
        """Whether it is let through, by every kind of network; None where they differ."""
        found = {one.allows(source, target, port, protocol) for one in self.networks}
        return found.pop() if len(found) == 1 else None


@pytest.fixture(scope="module", params=sorted(RELEASES))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(request.param, tmp_path_factory.mktemp("rendered"))


def test_a_user_at_work_reaches_what_they_need(world: World) -> None:
    # The client's requests and its scheduler's TLS, one port.
    assert world.verdict(world.notebook, world.traefik, 8000)
    assert world.verdict(world.notebook, world.hub, 8081)
    assert world.verdict(world.notebook, RESOLVER, 53, "UDP")
    assert world.verdict(world.notebook, INTERNET, 443)
    # A browser: through the hub's proxy to the notebook and to dashboards.
    assert world.verdict(STRANGER, world.proxy, 8000)
    assert world.verdict(world.proxy, world.notebook, 8888)
    if world.gated:
        assert world.verdict(world.proxy, world.hub, GATE)
    else:
        assert world.verdict(world.proxy, world.traefik, 8000)
    assert world.verdict(world.hub, world.traefik, 8000)
    assert world.verdict(world.hub, world.notebook, 8888)


def test_the_gateway_reaches_what_it_needs(world: World) -> None:
    assert world.verdict(world.traefik, world.api, 8000)
    assert world.verdict(world.traefik, world.scheduler, 8786)
    assert world.verdict(world.hub if world.gated else world.traefik, world.scheduler, 8787)
    assert world.verdict(world.api, world.scheduler, 8788)
    assert world.verdict(world.api, world.hub, 8081)
    # The API server of the cluster: at any address.
    for pod in (world.api, world.controller, world.traefik):
        assert world.verdict(pod, INSIDE, 6443)
        assert world.verdict(pod, INTERNET, 443)


def test_a_cluster_reaches_what_it_needs(world: World) -> None:
    assert world.verdict(world.scheduler, world.api, 8000)
    assert world.verdict(world.worker, world.scheduler, 8786)
    assert world.verdict(world.scheduler, world.worker, 41234)
    assert world.verdict(world.worker, world.second, 41234)
    assert world.verdict(world.worker, RESOLVER, 53, "UDP")
    assert world.verdict(world.worker, RESOLVER, 53)
    assert world.verdict(world.worker, INTERNET, 443)


def test_users_do_not_reach_each_other(world: World) -> None:
    """In no kind of network."""
    for source in (world.worker, world.scheduler):
        assert world.verdict(source, world.others_worker, 41234) is False
        assert world.verdict(source, world.others_scheduler, 8786) is False
        assert world.verdict(source, world.others_scheduler, 8787) is False
        assert world.verdict(source, world.notebook, 8888) is False
    for target in (world.worker, world.scheduler):
        assert world.verdict(world.notebook, target, 8786) is False
        assert world.verdict(STRANGER, target, 8787) is False
    assert world.verdict(world.notebook, world.other_notebook, 8888) is False


def test_nobody_reaches_a_dashboard_past_the_gate(world: World) -> None:
    if world.gated:
        for source in (world.traefik, world.proxy, world.notebook, STRANGER, world.others_worker):
            assert world.verdict(source, world.scheduler, 8787) is False
        assert world.verdict(world.notebook, world.hub, GATE)
        for source in (world.worker, world.scheduler, STRANGER):
            assert world.verdict(source, world.hub, GATE) is False


def test_a_cluster_is_closed_before_its_own_policy_is_there(world: World) -> None:
    for component in ("dask-scheduler", "dask-worker"):
        fresh = dask(world.site, component, "new")
        for source in (world.notebook, world.worker, STRANGER):
            assert world.verdict(source, fresh, 8786) is False


def test_what_users_run_reaches_nothing_inside(world: World) -> None:
    for source in (world.notebook, world.worker, world.scheduler):
        assert world.verdict(source, METADATA, 80) is False
        assert world.verdict(source, INSIDE, 22) is False
        assert world.verdict(source, world.controller, 8000) is False
    for source in (world.worker, world.scheduler):
        assert world.verdict(source, world.hub, 8081) is False
        assert world.verdict(source, world.proxy, 8001) is False
    assert world.verdict(world.worker, world.traefik, 8000) is False
    assert world.verdict(world.notebook, world.api, 8000) is False
    assert world.verdict(STRANGER, world.api, 8000) is False


def operated(component: str) -> Pod:
    """A pod as the Dask operator labels it (dask-kubernetes, operator/controller: build_*_spec)."""
    return Pod({"dask.org/cluster-name": "c", "dask.org/component": component})


def test_with_the_operator_users_reach_schedulers_and_the_api_server(tmp_path: Path) -> None:
    site = example("protocoast")
    site = site.model_copy(update={"dask": site.dask.model_copy(update={"engine": "operator"})})
    objects = rendered(site, tmp_path)
    policies = [one for release in objects.values() for one in release if one["kind"] == "NetworkPolicy"]
    policies += network.objects(site)
    networks = [Network(tuple(policies), blocks_mean_pods=one) for one in (True, False)]
    notebook = hub_pod(site, "singleuser-server", **{"notebook-port": 8888})
    operator = Pod(pod_templates(objects["dask-operator"])["dask-operator"]["metadata"]["labels"])
    scheduler, worker, job = (operated(part) for part in ("scheduler", "worker", "job-runner"))
    reached = [
        (notebook, scheduler, 8786),
        (notebook, scheduler, 8787),
        (notebook, INSIDE, 6443),
        (notebook, Outside("10.96.0.1"), 443),
        (operator, scheduler, 8786),
        (operator, scheduler, 8787),
        (operator, INSIDE, 6443),
        (worker, scheduler, 8786),
        (job, scheduler, 8786),
        (scheduler, worker, 41234),
        (worker, worker, 41234),
        (worker, INTERNET, 443),
        (worker, RESOLVER, 53),
    ]
    closed = [
        (notebook, worker, 8788),
        (notebook, INSIDE, 22),
        (STRANGER, scheduler, 8786),
        (worker, INSIDE, 6443),
        (worker, METADATA, 80),
        (worker, notebook, 8888),
        (job, hub_pod(site, "hub"), 8081),
    ]
    for wanted, pairs in ((True, reached), (False, closed)):
        for source, target, port in pairs:
            assert {one.allows(source, target, port) for one in networks} == {wanted}, (source, target, port)


@pytest.mark.parametrize("name", sorted(RELEASES))
def test_labels_of_dask_pods_are_the_controllers(name: str) -> None:
    from dask_gateway_server.backends.kubernetes.controller import KubeController

    controller = KubeController(gateway_instance=gateway.instance(example(name)))
    real = controller.get_labels("ann", "dask-worker")
    wanted = dask(example(name), "dask-worker", "ann").labels
    assert {label: real.get(label) for label in wanted} == wanted


def test_older_charts_keep_what_they_opened() -> None:
    """There the list replaces the chart's: notebooks keep the internet, hub and proxy everything."""
    older = network.hub_values(example("pangeo"))
    newer = network.hub_values(example("protocoast"))
    assert [list(rule) for rule in newer["singleuser"]["networkPolicy"]["egress"]] == [["to", "ports"]] * 2
    assert older["singleuser"]["networkPolicy"]["egress"][-1]["to"][0]["ipBlock"]["cidr"] == "0.0.0.0/0"
    for values in (older["hub"], older["proxy"]["chp"]):
        assert values["networkPolicy"]["egress"][-1] == {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}


def test_without_an_engine_there_is_nothing_to_open() -> None:
    site = example("protocoast")
    none = site.model_copy(update={"dask": site.dask.model_copy(update={"engine": "none"})})
    assert (network.hub_values(none), network.objects(none), network.gateway_values(none)) == ({}, [], {})
