"""`status`, `check` and `logs` name what keeps servers, clusters and parts from running, on a real API server."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import pytest
from local_cluster import LocalCluster
from preflight_site import crd, made, owned

from tidehub.helm.engine import ReleaseRecord
from tidehub.kubernetes.cluster.connection import connect
from tidehub.kubernetes.observing import people
from tidehub.kubernetes.observing.evidence import ClusterLogs
from tidehub.kubernetes.observing.logs import choose, sources
from tidehub.kubernetes.observing.status import platform_status
from tidehub.kubernetes.observing.words import status_lines

CRDS = "apiextensions.k8s.io/v1"
MISSING = "missing.invalid/image:1"


def pod(name: str, image: str = "registry.invalid/one:1", **meta: Any) -> dict[str, Any]:
    return made("v1", "Pod", name, meta=meta, spec={"containers": [{"name": "notebook", "image": image}]})


def server(user: str, image: str = "registry.invalid/one:1") -> dict[str, Any]:
    slug = user.replace(".", "-")
    return pod(
        f"jupyter-{slug}",
        image,
        labels={"app": "jupyterhub", "component": "singleuser-server"},
        annotations={"hub.jupyter.org/username": user},
    )


def worker(name: str, cluster: str, role: str, image: str = "registry.invalid/dask:1") -> dict[str, Any]:
    labels = {"gateway.dask.org/cluster": cluster, "app.kubernetes.io/component": role}
    return pod(name, image, labels=labels)


def dask(name: str, user: str) -> dict[str, Any]:
    return made("gateway.dask.org/v1alpha1", "DaskCluster", name, spec={"username": user})


def workload(kind: str, name: str, image: str, namespace: str) -> dict[str, Any]:
    labels = {"app": "jupyterhub", "component": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "part", "image": image}]}}
    one = made("apps/v1", kind, name, spec={"selector": {"matchLabels": labels}, "template": template})
    return owned(one, "jupyterhub", namespace)


class Helm:
    """The releases alone."""

    def list(self, namespace: str) -> tuple[ReleaseRecord, ...]:
        hub = ReleaseRecord("jupyterhub", namespace, 1, "deployed", "jupyterhub", "4.4.0", "5.5.0")
        return hub, ReleaseRecord("blog", namespace, 1, "failed", "wordpress", "1.0.0", "")


@pytest.fixture(scope="module")
def there(cluster: Any) -> Iterator[str]:
    """A hub that runs, a server and a worker whose images are not there, clusters with and without pods."""
    if not isinstance(cluster, LocalCluster):
        pytest.skip("pods of a given cluster are real")
    api, namespace = cluster.api, "reasons"
    api.create(made("v1", "Namespace", namespace))
    if api.get("CustomResourceDefinition", "daskclusters.gateway.dask.org", version=CRDS) is None:
        api.create(crd("gateway.dask.org", "v1alpha1"))
    api.wait("clusters are served", lambda: _served(cluster))
    for one in (
        workload("Deployment", "hub", "registry.invalid/hub:1", namespace),
        workload("Deployment", "proxy", "registry.invalid/proxy:1", namespace),
        workload("DaemonSet", "continuous-image-puller", MISSING, namespace),
        server("anna"),
        server("carol.coast", MISSING),
        dask("idle1", "anna"),
        dask("busy1", "dan"),
        dask("ends1", "eve"),
        worker("dask-scheduler-busy1", "busy1", "dask-scheduler"),
        worker("dask-worker-busy1-x", "busy1", "dask-worker", MISSING),
        worker("dask-scheduler-lost", "lost", "dask-scheduler"),
    ):
        api.create(one, namespace)

    running: dict[str, Any] = {"status": {"phase": "Running"}}
    for name, more in (("busy1", {}), ("ends1", {"spec": {"active": False}})):
        api.patch("DaskCluster", name, running | more, namespace, version="gateway.dask.org/v1alpha1")

    def settled() -> bool:
        pods = api.list("Pod", namespace)
        text = [str(one.get("status")) for one in pods]
        events = str(api.list("Event", namespace))
        return len(pods) >= 8 and all("podIP" in one for one in text) and events.count("missing.invalid") >= 3

    api.wait("the pods are looked at", settled)
    yield namespace
    api.delete("Namespace", namespace)


def _served(cluster: LocalCluster) -> bool:
    return any(one.kind == "DaskCluster" for one in connect(str(cluster.kubeconfig)).served())


def test_what_does_not_run_is_named_with_its_reason(cluster: LocalCluster, there: str) -> None:
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=people.TAKEN_UP + 5)
    found = platform_status(
        connect(str(cluster.kubeconfig)), Helm(), there, address="https://hub.example.org", now=lambda: later  # type: ignore[arg-type]
    )  # fmt: skip
    told = status_lines(found)
    assert told[0] == "not well at https://hub.example.org"
    assert found["healthy"] is False
    # Nobody but Helm knows of the hub's release, and the other one is none of a platform.
    assert [(one["name"], one["ours"]) for one in found["releases"]] == [("jupyterhub", False)]
    assert "revision 1, not made by tidehub" in "\n".join(told)
    servers = {one["user"]: one for one in found["servers"]}
    assert servers["anna"]["why"] is None
    assert f"the image '{MISSING}' of jupyter-carol-coast cannot be pulled" in servers["carol.coast"]["why"]
    assert "no such host" in servers["carol.coast"]["why"]
    parts = {one["name"]: one for one in found["parts"]}
    assert parts["hub"]["state"] == "ready"
    assert "cannot be pulled" in parts["continuous-image-puller"]["why"]
    clusters = {one["cluster"]: one for one in found["clusters"]}
    owners = {name: one["user"] for name, one in clusters.items()}
    assert owners == {"busy1": "dan", "ends1": "eve", "idle1": "anna", "lost": None}
    assert "it is to end, and no controller has ended it for" in clusters["ends1"]["why"]
    assert clusters["busy1"]["why"].startswith("the image")
    assert (clusters["busy1"]["scheduler"], clusters["busy1"]["workers"], clusters["busy1"]["waiting"]) == (
        "Running",
        0,
        1,
    )
    assert "no controller has taken it up" in clusters["idle1"]["why"]
    assert "no such cluster" in clusters["lost"]["why"]
    text = "\n".join(told)
    assert "None" not in text and servers["carol.coast"]["why"] in text and clusters["idle1"]["why"] in text


def test_a_failed_check_names_pod_event_and_controller(
    cluster: LocalCluster, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people, "TAKEN_UP", 0.0)
    cluster.write_pod_log("[I] all is well\n[E] RuntimeError: the disk is full\n")
    logs = ClusterLogs(connect(str(cluster.kubeconfig)), there)
    spawn = logs.matter(("hub", "servers"), ["carol.coast"])
    assert any(
        line.startswith("jupyter-carol-coast: the image") and "no such host" in line for line in spawn
    ), spawn
    assert any(line == "hub: [E] RuntimeError: the disk is full" for line in spawn), spawn
    assert not any("busy1" in line for line in spawn)
    compute = logs.matter(("gateway", "clusters"), ["dan", f"{there}.busy1"])
    assert any(line.startswith("dask-worker-busy1-x: the image") for line in compute), compute
    created = logs.matter(("gateway", "clusters"), ["anna"])
    assert any(line.startswith("cluster idle1 of anna: no controller has taken it up") for line in created), (
        created
    )


@pytest.mark.parametrize(
    ("asked", "pods"),
    [
        ("hub", {"hub"}),
        ("continuous-image-puller", {"continuous-image-puller"}),
        ("carol.coast", {"jupyter-carol-coast"}),
        ("servers/carol.coast", {"jupyter-carol-coast"}),
        ("busy1", {"dask-scheduler-busy1", "dask-worker-busy1-x"}),
        ("{}.busy1", {"dask-scheduler-busy1", "dask-worker-busy1-x"}),
        ("clusters/{}.busy1", {"dask-scheduler-busy1", "dask-worker-busy1-x"}),
        ("jupyter-anna", {"jupyter-anna"}),
    ],
)
def test_logs_take_every_name_that_status_and_people_print(
    cluster: LocalCluster, there: str, asked: str, pods: set[str]
) -> None:
    found = choose(sources(connect(str(cluster.kubeconfig)), there), asked.format(there))
    assert {name for one in found for name in pods if one.pod.startswith(name)} == pods
    assert all(one.pod.startswith(tuple(pods)) for one in found)
