"""Dask Gateway's server with the carried policy, its controller and the chart's rights, on a real API server."""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cluster_programs
import pytest
from gateway_on_cluster import GatewayOnCluster

from tidehub.kubernetes.values import network

THIRD = "You have 2 clusters, and this site allows 2 for each user (dask.per_user.max_clusters). Shut one down first."


OLD = "TIDEHUB_OLD_DASK_GATEWAY"


def python_of(version: str) -> str:
    """The Python of a dask-gateway of that version: this one's, or the one that the environment names."""
    if version == "2026.3.0":
        return sys.executable
    if OLD not in os.environ:
        pytest.skip(
            f"{OLD} is not set: it names the Python 3.10 of an environment with dask-gateway-server 2022.6.1"
        )
    return os.environ[OLD]


@pytest.fixture(scope="module", params=["2026.3.0", "2022.6.1"])
def server(
    request: pytest.FixtureRequest, cluster: Any, charts_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayOnCluster]:
    python = python_of(request.param)
    programs = cluster_programs.find()
    if programs is None:
        pytest.skip("needs the helm of the prepared test cluster")
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    folder = tmp_path_factory.mktemp("gateway")
    programs_and_charts = {"helm": programs.helm(4), "charts": charts_dir}
    with GatewayOnCluster(
        cluster, name, folder, **programs_and_charts, version=request.param, python=python
    ) as started:
        cluster.api.apply(network.objects(started.site), name)
        yield started
        print(started.log())
    cluster.api.delete("Namespace", name)


@pytest.fixture(autouse=True)
def without_clusters(server: GatewayOnCluster) -> Iterator[None]:
    yield
    server.hub.present = {"ann", "bob"}
    for user in ("ann", "bob"):
        for name in server.as_user(user, "GET", "/clusters/")[1]:
            server.as_user(user, "DELETE", f"/clusters/{name}")
        server.api.wait(
            "clusters are gone", lambda who=user: server.as_user(who, "GET", "/clusters/")[1] == {}
        )


def started(server: GatewayOnCluster, user: str = "ann") -> str:
    """A cluster that runs."""
    status, said = server.as_user(user, "POST", "/clusters/", {"cluster_options": {}})
    assert status == 201, said
    name: str = said["name"]
    server.api.wait(
        "the cluster runs",
        lambda: server.as_user(user, "GET", f"/clusters/{name}")[1]["status"] == "RUNNING",
    )
    return name


def test_the_hub_decides_who_comes_in(server: GatewayOnCluster) -> None:
    assert server.as_user("ann", "GET", "/options")[0] == 200
    # Known, but without the scope; and not known at all.
    assert server.as_user("shut", "GET", "/options")[0] == 401
    assert server.as_user("eve", "GET", "/options")[0] == 401
    assert server.ask("GET", "/api/v1/options")[0] == 401


def test_a_third_cluster_is_refused_in_the_words_of_one_machine(server: GatewayOnCluster) -> None:
    first = started(server)
    assert server.as_user("ann", "POST", "/clusters/", {"cluster_options": {}})[0] == 201
    assert server.as_user("ann", "POST", "/clusters/", {"cluster_options": {}}) == (422, {"error": THIRD})
    status, said = server.as_user("bob", "POST", "/clusters/", {"cluster_options": {"worker_cores": 3}})
    assert (status, said) == (
        422,
        {"error": "worker_cores is 3; this site allows 1 to 2 cores (dask.worker.cores)"},
    )
    server.as_user("ann", "DELETE", f"/clusters/{first}")
    assert server.as_user("ann", "POST", "/clusters/", {"cluster_options": {}})[0] == 201


def test_a_cluster_is_what_was_chosen_and_closed_off(server: GatewayOnCluster) -> None:
    name = started(server)
    short = name.partition(".")[2]
    policy = server.api.get(
        "NetworkPolicy", f"dask-{short}", server.namespace, version="networking.k8s.io/v1"
    )
    assert policy is not None
    assert policy["metadata"]["ownerReferences"][0]["uid"] == server.cluster(name)["metadata"]["uid"]
    scheduler = server.api.get("Pod", f"dask-scheduler-{short}", server.namespace)
    assert scheduler is not None
    (container,) = scheduler["spec"]["containers"]
    assert container["image"] == "quay.io/x/main:1"
    assert container["args"][:2] == ["dask", "scheduler"]
    sizes = {"cpu": "1", "memory": str(2 * 2**30)}
    assert container["resources"] == {"requests": sizes, "limits": sizes}
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= scheduler["metadata"]["labels"].items()


def test_workers_stay_within_a_users_total(server: GatewayOnCluster) -> None:
    """20 GiB, of which two schedulers take 4: four workers of 4 GiB."""
    first, second = started(server), started(server)
    assert server.heartbeat(first, 3) == 3
    assert server.heartbeat(second, 3) == 1
    server.api.wait("three workers", lambda: len(server.workers(first)) == 3)
    server.api.wait("one worker", lambda: len(server.workers(second)) == 1)
    (worker, *_) = server.workers(first)
    (container,) = worker["spec"]["containers"]
    sizes = {"cpu": "1", "memory": str(4 * 2**30)}
    assert container["resources"] == {"requests": sizes, "limits": sizes}
    # The scheduler lets its workers go, but they do not go: nothing becomes free.
    assert server.heartbeat(first, 0) == 0
    assert server.heartbeat(second, 3) == 1
    for pod in server.workers(first):
        server.api.delete("Pod", pod["metadata"]["name"], server.namespace)
    server.api.wait("their pods are gone", lambda: server.workers(first) == [])
    server.heartbeat(first, 0)
    assert server.heartbeat(second, 3) == 3


def test_a_cluster_that_is_stopped_at_once_is_stopped(server: GatewayOnCluster) -> None:
    """Upstream answers 204 and stops nothing while its informer does not show the cluster."""
    for _ in range(15):
        status, said = server.as_user("ann", "POST", "/clusters/", {"cluster_options": {}})
        assert status == 201, said
        assert server.as_user("ann", "DELETE", f"/clusters/{said['name']}")[0] == 204
        assert server.cluster(said["name"])["spec"]["active"] is False


def test_a_user_without_a_server_loses_their_clusters(server: GatewayOnCluster) -> None:
    name = started(server)
    started(server, "bob")
    server.hub.present = {"bob"}
    server.api.wait("the cluster is ended", lambda: server.as_user("ann", "GET", "/clusters/")[1] == {})
    assert server.cluster(name)["spec"]["active"] is False
    assert len(server.as_user("bob", "GET", "/clusters/")[1]) == 1


def test_a_scheduler_that_the_controller_forgot_is_ended(server: GatewayOnCluster) -> None:
    """Stopped right after the start, again and again: whatever moment that is, no pod stays, nor of the last one."""
    for pause in (0.0, 0.02, 0.05, 0.1, 0.2) * 3:
        status, said = server.as_user("ann", "POST", "/clusters/", {"cluster_options": {}})
        assert status == 201, said
        time.sleep(pause)
        assert server.as_user("ann", "DELETE", f"/clusters/{said['name']}")[0] == 204
    server.api.wait("no scheduler is left", lambda: schedulers(server) == [], patience=90)


def test_pods_of_clusters_that_are_no_more_are_ended_and_no_others(server: GatewayOnCluster) -> None:
    name = started(server)
    spec = {"containers": [{"name": "dask-scheduler", "image": "quay.io/x/main:1"}]}
    for pod, labels in (
        ("of-nobody", {"gateway.dask.org/cluster": "0" * 32}),
        ("of-the-cluster", {"gateway.dask.org/cluster": name.partition(".")[2]}),
        ("unrelated", {"app": "x"}),
    ):
        meta = {"name": pod, "labels": labels}
        server.api.create(
            {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}, server.namespace
        )
    server.api.wait(
        "it is ended", lambda: server.api.get("Pod", "of-nobody", server.namespace) is None, patience=90
    )
    for pod in ("of-the-cluster", "unrelated"):
        assert server.api.get("Pod", pod, server.namespace) is not None
        server.api.delete("Pod", pod, server.namespace)
    assert len(schedulers(server)) == 1


def schedulers(server: GatewayOnCluster) -> list[str]:
    """The names of schedulers' pods."""
    pods = server.api.list("Pod", server.namespace, selector="app.kubernetes.io/component=dask-scheduler")
    return [pod["metadata"]["name"] for pod in pods]
