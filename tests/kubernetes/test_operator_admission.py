"""What a real API server admits of the Dask clusters that users ask the operator for."""

from __future__ import annotations

import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_api import Api, Refused

from tidehub.kubernetes.objects import CLUSTER_KINDS
from tidehub.kubernetes.values import operator
from tidehub.site.reading.load import load_text

SITE = """
site: {{name: Coast, url: "https://hub.example.org", people: 1}}
login: {{provider: egi-check-in, client_id: x, allow: {{everyone: true}}}}
notebooks: {{profiles: [{{name: Small, default: true, image: "quay.io/x/small:1"}}]}}
dask:
  engine: operator
  worker: {{cores: {{min: 1, max: 2, default: 1}}, memory: {{min: 1 GiB, max: 4 GiB, default: 2 GiB}}}}
  cluster: {{max_workers: 4, max_cores: 9, max_memory: 18 GiB}}
  per_user: {{max_clusters: 2}}
kubernetes: {{namespace: {namespace}}}
"""
LIMITS = {"limits": {"cpu": "1", "memory": "2Gi"}}
VERSION = "kubernetes.dask.org/v1"


@pytest.fixture(scope="module")
def namespace(cluster: Any) -> Iterator[str]:
    """One for all tests here: the operator's schemas are large, and servers take them slowly."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    cluster.api.delete("Namespace", name)


@pytest.fixture(scope="module")
def user(cluster: Any, namespace: str, charts_dir: Path) -> Iterator[Api]:
    """A notebook server's own access, where the operator's objects are installed."""
    site = load_text(SITE.format(namespace=namespace), "tidehub.yaml").site
    for text in custom_resources(charts_dir / f"dask-kubernetes-operator-{operator.chart_version(site)}.tgz"):
        cluster.api.apply(text)
    objects = operator.objects(site)
    cluster.api.apply(objects, namespace)
    name = f"system:serviceaccount:{namespace}:{operator.SERVICE_ACCOUNT}"
    access = Api(
        cluster.kubeconfig_for(name, ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"])
    )
    refused = dask_cluster("probe", hostNetwork=True)

    def in_force() -> bool:
        try:
            access.create(refused, namespace)
        except Refused as answer:
            return "Dask pods do not share the network" in str(answer)
        access.delete("DaskCluster", "probe", namespace, version=VERSION)
        return False

    cluster.api.wait("the admission policy is in force", in_force)
    yield access
    for one in objects:
        if one["kind"] in CLUSTER_KINDS:
            cluster.api.delete(one["kind"], one["metadata"]["name"], version=one["apiVersion"])


@pytest.fixture(autouse=True)
def without_clusters(user: Api, namespace: str) -> Iterator[None]:
    yield
    for one in user.list("DaskCluster", namespace, version=VERSION):
        user.delete("DaskCluster", one["metadata"]["name"], namespace, version=VERSION)


def custom_resources(archive: Path) -> list[str]:
    with tarfile.open(archive) as chart:
        members = [one for one in chart.getmembers() if "/crds/" in one.name and one.isfile()]
        return [chart.extractfile(one).read().decode() for one in members]  # type: ignore[union-attr]


def dask_cluster(name: str, *, replicas: int = 2, service: str = "ClusterIP", **pod: Any) -> dict[str, Any]:
    """As `KubeCluster` makes it; `pod` changes the worker's pod, `container` in it the worker's container."""
    container = {"name": "worker", "image": "x:1", "args": ["dask", "worker"], "resources": LIMITS}
    container |= pod.pop("container", {})
    scheduler = {"name": "scheduler", "image": "x:1", "args": ["dask", "scheduler"], "resources": LIMITS}
    ports = [{"name": "tcp-comm", "port": 8786, "protocol": "TCP", "targetPort": "tcp-comm"}]
    return {
        "apiVersion": VERSION,
        "kind": "DaskCluster",
        "metadata": {"name": name},
        "spec": {
            "worker": {"replicas": replicas, "spec": {"containers": [container], **pod}},
            "scheduler": {
                "spec": {"containers": [scheduler]},
                "service": {"type": service, "selector": {"dask.org/cluster-name": name}, "ports": ports},
            },
        },
    }


def secret_volume() -> dict[str, Any]:
    return {"volumes": [{"name": "a", "secret": {"secretName": "hub"}}]}


def secret_variable() -> dict[str, Any]:
    return {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "x"}}}]}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "account": ({"serviceAccountName": "hub"}, "run under the account default"),
    "secret": (secret_volume(), "emptyDir, configMap and downwardAPI volumes only"),
    "home": (
        {"volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": "claim-bob"}}]},
        "emptyDir, configMap and downwardAPI volumes only",
    ),
    "host": ({"volumes": [{"name": "a", "hostPath": {"path": "/"}}]}, "emptyDir, configMap and"),
    "variable": ({"container": secret_variable()}, "read no secrets into their environment"),
    "variables": ({"container": {"envFrom": [{"secretRef": {"name": "hub"}}]}}, "read no secrets"),
    "network": ({"hostNetwork": True}, "do not share the network"),
    "processes": ({"hostPID": True}, "do not share the network or processes"),
    "privileged": ({"container": {"securityContext": {"privileged": True}}}, "not privileged"),
    "capability": (
        {"container": {"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}},
        "gain no capabilities",
    ),
    "before": ({"initContainers": [{"name": "i", "image": "x:1"}]}, "has one container"),
    "cores": (
        {"container": {"resources": {"limits": {"cpu": "2001m", "memory": "2Gi"}}}},
        "within cpu 2 and memory 4Gi (dask.worker)",
    ),
    "memory": (
        {"container": {"resources": {"limits": {"cpu": "2", "memory": "4097Mi"}}}},
        "A worker states its limits, within cpu 2 and memory 4Gi (dask.worker)",
    ),
    "limitless": ({"container": {"resources": {}}}, "A worker states its limits"),
    "many": ({"replicas": 5}, "A cluster has 4 workers at most (dask.cluster.max_workers)"),
    "exposed": ({"service": "LoadBalancer"}, "of the type ClusterIP"),
}


def test_what_is_within_the_bounds_is_admitted_and_counted(user: Api, namespace: str, cluster: Any) -> None:
    largest = {"resources": {"limits": {"cpu": "2", "memory": "4Gi"}}}
    user.create(dask_cluster("first", container=largest, replicas=4), namespace)
    plain = {"volumes": [{"name": "a", "emptyDir": {}}]}
    user.create(dask_cluster("second", container={"env": [{"name": "A", "value": "b"}]}, **plain), namespace)

    def counted() -> bool:
        quota = cluster.api.get("ResourceQuota", operator.SERVICE_ACCOUNT, namespace)
        used = quota.get("status", {}).get("used", {})
        return bool(used.get("count/daskclusters.kubernetes.dask.org") == "2")

    cluster.api.wait("both clusters count", counted)
    with pytest.raises(Refused, match="exceeded quota"):
        user.create(dask_cluster("third"), namespace)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_reaches_beyond_is_refused_in_words(user: Api, namespace: str, name: str) -> None:
    change, words = REFUSED[name]
    with pytest.raises(Refused) as refused:
        user.create(dask_cluster(name, **change), namespace)
    assert refused.value.status == 422
    assert words in str(refused.value)


def test_a_cluster_does_not_grow_beyond_afterwards(user: Api, namespace: str) -> None:
    user.create(dask_cluster("grows"), namespace)
    with pytest.raises(Refused, match="4 workers at most"):
        user.patch("DaskCluster", "grows", {"spec": {"worker": {"replicas": 5}}}, namespace, version=VERSION)
    user.patch("DaskCluster", "grows", {"spec": {"worker": {"replicas": 4}}}, namespace, version=VERSION)
    scaler = {"cluster": "grows", "minimum": 1, "maximum": 5}
    meta = {"name": "grows"}
    with pytest.raises(Refused, match="4 workers at most"):
        user.create(
            {"apiVersion": VERSION, "kind": "DaskAutoscaler", "metadata": meta, "spec": scaler}, namespace
        )


def test_jobs_and_groups_of_workers_are_bound_alike(user: Api, namespace: str) -> None:
    spec = dask_cluster("x", **secret_volume())["spec"]
    group = {"cluster": "x", "worker": spec["worker"]}
    good = dask_cluster("x")["spec"]
    runner = {
        "containers": [{"name": "job", "image": "x:1", "resources": LIMITS}],
        "serviceAccountName": "hub",
    }
    job = {"job": {"spec": runner}, "cluster": {"spec": good}}
    for kind, found in (("DaskWorkerGroup", group), ("DaskJob", job)):
        with pytest.raises(Refused) as refused:
            user.create(
                {"apiVersion": VERSION, "kind": kind, "metadata": {"name": "x"}, "spec": found}, namespace
            )
        assert refused.value.status == 422


def test_a_notebook_has_no_other_rights(user: Api, namespace: str) -> None:
    for kind in ("Secret", "ConfigMap"):
        with pytest.raises(Refused) as refused:
            user.list(kind, namespace)
        assert refused.value.status == 403
    assert user.list("Pod", namespace) == []
    with pytest.raises(Refused) as refused:
        user.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "p"},
                "spec": {"containers": [{"name": "c", "image": "x:1"}]},
            },
            namespace,
        )
    assert refused.value.status == 403


def test_other_namespaces_are_not_meant(user: Api, cluster: Any) -> None:
    del user
    elsewhere = dask_cluster("theirs", hostNetwork=True)
    cluster.api.create(elsewhere, "default")
    cluster.api.delete("DaskCluster", "theirs", "default", version=VERSION)
