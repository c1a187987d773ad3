"""The cluster connection against a real API server: writes and their refusals, watches, logs, exec."""

# ruff: noqa: F811
from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from connection_fixtures import connected, problem_of, server  # noqa: F401
from local_cluster import LocalCluster

from tidehub.kubernetes.cluster import connection as connection_module
from tidehub.kubernetes.cluster.connection import Connection, connect
from tidehub.kubernetes.cluster.port import Access, ClusterProblem

Object = dict[str, Any]
Change = Callable[[Object], Any]


def test_what_the_server_is_and_serves(connected: Connection) -> None:
    assert connected.name == "test"
    assert connected.version().startswith("v1.34.")
    served = {(one.api_version, one.kind): one for one in connected.served()}
    assert served["apps/v1", "Deployment"].plural == "deployments"
    assert served["apps/v1", "Deployment"].namespaced
    assert not served["v1", "Node"].namespaced
    assert "watch" in served["v1", "Pod"].verbs
    assert {"apps/v1", "apps/v1/Deployment", "v1/Pod", "networking.k8s.io/v1/Ingress"} <= set(
        connected.api_versions()
    )
    assert list(connected.api_versions()) == sorted(connected.api_versions())
    offset = connected.clock_offset()
    assert offset is not None
    assert abs(offset) < 30


def test_objects_are_written_read_and_deleted(connected: Connection, namespace: str) -> None:
    assert connected.get("v1", "ConfigMap", "one", namespace) is None
    assert connected.create(_map("one", a="1"), namespace)["data"] == {"a": "1"}
    assert connected.patch("v1", "ConfigMap", "one", {"data": {"b": "2"}}, namespace)["data"] == {
        "a": "1",
        "b": "2",
    }
    there = connected.get("v1", "ConfigMap", "one", namespace)
    assert there is not None
    assert connected.replace({**there, "data": {"c": "3"}}, namespace)["data"] == {"c": "3"}
    found = connected.find("v1", "ConfigMap", namespace, fields="metadata.name=one")
    assert [(one["apiVersion"], one["kind"], one["data"]) for one in found] == [
        ("v1", "ConfigMap", {"c": "3"})
    ]
    assert connected.delete("v1", "ConfigMap", "one", namespace)
    assert not connected.delete("v1", "ConfigMap", "one", namespace)


def test_a_dry_run_writes_nothing(connected: Connection, server: LocalCluster, namespace: str) -> None:
    connected.create(_map("there"), namespace)
    before = time.time()
    connected.apply(_map("applied", a="1"), namespace, dry_run=True)
    connected.create(_map("created"), namespace, dry_run=True)
    connected.patch("v1", "ConfigMap", "there", {"data": {"x": "y"}}, namespace, dry_run=True)
    connected.delete("v1", "ConfigMap", "there", namespace, dry_run=True)
    assert [one["metadata"]["name"] for one in connected.find("v1", "ConfigMap", namespace)].count(
        "there"
    ) == 1
    assert [one["requestURI"] for one in server.writes(since=before) if namespace in one["requestURI"]] == []


def test_objects_are_found_by_label_in_pages(
    connected: Connection, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "_PAGE", 3)
    for number in range(8):
        labels = {"metadata": {"name": f"n{number}", "labels": {"of": "us", "odd": str(number % 2)}}}
        connected.create(_map(f"n{number}") | labels, namespace)
    names = [
        one["metadata"]["name"] for one in connected.find("v1", "ConfigMap", namespace, labels={"of": "us"})
    ]
    assert sorted(names) == [f"n{number}" for number in range(8)]
    assert len(connected.find("v1", "ConfigMap", namespace, labels="of=us,odd=1")) == 4


def test_a_new_crd_is_served_at_once(connected: Connection, server: LocalCluster) -> None:
    group = f"g{os.urandom(3).hex()}.example.org"
    assert connected.find(f"{group}/v1", "Thing") == []
    assert connected.get(f"{group}/v1", "Thing", "one") is None
    before = len(connected.served())
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    names = {"kind": "Thing", "plural": "things", "singular": "thing", "listKind": "ThingList"}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things.{group}"},
        "spec": {"group": group, "scope": "Cluster", "names": names, "versions": [version]},
    }
    connected.apply(crd)
    thing = {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": "one"}, "spec": {"x": 1}}
    try:
        server.api.wait("the kind is served", lambda: _tried(lambda: connected.apply(thing)))
        assert connected.find(f"{group}/v1", "Thing")[0]["spec"] == {"x": 1}
        assert len(connected.served()) == before + 1
    finally:
        connected.delete("apiextensions.k8s.io/v1", "CustomResourceDefinition", f"things.{group}")
    server.api.wait("the kind is gone", lambda: len(_fresh(connected).served()) == before)


# -- refusals


def test_a_conflict_names_managers_and_fields(
    connected: Connection, server: LocalCluster, namespace: str
) -> None:
    server.apply(_map("shared", a="theirs", b="theirs"), namespace)
    problem = problem_of(lambda: connected.apply(_map("shared", a="ours", b="ours"), namespace))
    assert problem.reason == "conflict"
    assert "fields belong to someone else: tests (.data.a, .data.b)" in str(problem)
    assert connected.apply(_map("shared", a="ours"), namespace, force=True)["data"]["a"] == "ours"


def test_what_is_there_already_is_a_conflict(connected: Connection, namespace: str) -> None:
    connected.create(_map("one"), namespace)
    problem = problem_of(lambda: connected.create(_map("one"), namespace))
    assert (problem.reason, problem.status) == ("conflict", 409)
    assert "already exists" in str(problem)


def test_an_invalid_object_lists_its_fields(connected: Connection, namespace: str) -> None:
    template = {"metadata": {"labels": {"app": "b"}}, "spec": {"containers": [{"name": "X", "image": ""}]}}
    spec = {"replicas": -1, "selector": {"matchLabels": {"app": "a"}}, "template": template}
    problem = problem_of(
        lambda: connected.apply(_object("apps/v1", "Deployment", "bad", spec=spec), namespace)
    )
    assert (problem.reason, problem.status) == ("invalid", 422)
    for text in (
        "spec.replicas: Invalid value: -1",
        "spec.template.metadata.labels",
        "image: Required value",
    ):
        assert text in str(problem)


def test_an_exceeded_quota_is_one(connected: Connection, server: LocalCluster, namespace: str) -> None:
    connected.create(_object("v1", "ResourceQuota", "small", spec={"hard": {"services": "0"}}), namespace)
    server.api.wait(
        "the quota is counted",
        lambda: ((server.api.get("ResourceQuota", "small", namespace) or {}).get("status") or {}).get("used"),
    )
    service = _object("v1", "Service", "one", spec={"ports": [{"port": 80}]})
    problem = problem_of(lambda: connected.create(service, namespace))
    assert (problem.reason, problem.status) == ("quota", 403)
    assert "exceeded quota: small" in str(problem)


def test_a_right_that_is_missing(server: LocalCluster, namespace: str) -> None:
    nobody = connect(str(server.kubeconfig_for("connection-nobody")), seconds=10)
    problem = problem_of(lambda: nobody.create(_map("one"), namespace))
    assert (problem.reason, problem.status) == ("forbidden", 403)
    assert 'User "connection-nobody" cannot create resource "configmaps"' in str(problem)
    assert nobody.allowed([Access("create", "configmaps", "", namespace), Access("get", "nodes")]) == [
        False,
        False,
    ]


def test_what_one_may_do_is_answered_in_order(
    connected: Connection, server: LocalCluster, namespace: str
) -> None:
    rbac = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]}]
    connected.create(_object(f"{rbac}/v1", "Role", "shell", rules=rules), namespace)
    role = {"apiGroup": rbac, "kind": "Role", "name": "shell"}
    user = {"apiGroup": rbac, "kind": "User", "name": "connection-shell"}
    connected.create(_object(f"{rbac}/v1", "RoleBinding", "shell", roleRef=role, subjects=[user]), namespace)
    shell = connect(str(server.kubeconfig_for("connection-shell")), seconds=10)
    asked = [
        Access("create", "pods/exec", "", namespace),
        Access("create", "pods", "", namespace),
        Access("create", "pods/exec", "", "default"),
    ]
    server.api.wait("the role counts", lambda: shell.allowed(asked[:1]) == [True])
    assert shell.allowed(asked) == [True, False, False]


def test_a_namespace_that_is_not_there(connected: Connection) -> None:
    problem = problem_of(lambda: connected.create(_map("one"), "no-such-namespace"))
    assert (problem.reason, problem.status) == ("not-found", 404)
    assert connected.find("v1", "ConfigMap", "no-such-namespace") == []


def test_a_kind_that_is_not_served(connected: Connection, namespace: str) -> None:
    unknown = _object("zz.example.org/v1", "Unknown", "one")
    problem = problem_of(lambda: connected.apply(unknown, namespace))
    assert problem.reason == "not-found"
    assert "does not serve Unknown of zz.example.org/v1" in str(problem)


# -- a server that fails


def test_a_server_that_hangs_is_late(server: LocalCluster, connected: Connection) -> None:
    quick = connect(str(server.kubeconfig), seconds=1)
    server.freeze()
    try:
        started = time.monotonic()
        problem = problem_of(lambda: quick.find("v1", "Namespace"))
        assert time.monotonic() - started < 5
    finally:
        server.thaw()
    assert problem.reason == "timeout"
    assert "did not answer within 1 s" in str(problem)
    assert quick.find("v1", "Namespace")


def test_a_server_that_is_gone_is_unreachable_and_comes_back(
    server: LocalCluster, connected: Connection
) -> None:
    assert connected.find("v1", "Namespace")
    server.kill_api()
    try:
        problem = problem_of(lambda: connected.find("v1", "Namespace"))
    finally:
        server.start_api()
    assert problem.reason == "unreachable"
    assert "the connection was refused" in str(problem)
    assert connected.find("v1", "Namespace")


def test_a_read_survives_a_short_outage(server: LocalCluster, connected: Connection) -> None:
    assert connected.find("v1", "Namespace")
    server.freeze()
    timer = threading.Timer(1.0, server.thaw)
    timer.start()
    assert connected.find("v1", "Namespace")
    timer.join()


# -- watches


def test_a_watch_tells_what_is_there_and_what_changes(connected: Connection, namespace: str) -> None:
    connected.create(_map("first"), namespace)
    told: list[tuple[str, str]] = []
    for event in connected.watch(
        "v1", "ConfigMap", namespace, seconds=20, fields="metadata.name!=kube-root-ca.crt"
    ):
        told.append((event.kind, event.obj["metadata"]["name"]))
        if len(told) == 1:
            connected.create(_map("second"), namespace)
            connected.patch("v1", "ConfigMap", "first", {"data": {"a": "b"}}, namespace)
            connected.delete("v1", "ConfigMap", "second", namespace)
        if len(told) == 4:
            break
    assert told == [("ADDED", "first"), ("ADDED", "second"), ("MODIFIED", "first"), ("DELETED", "second")]


def test_a_watch_ends_in_time(connected: Connection, namespace: str) -> None:
    started = time.monotonic()
    list(connected.watch("v1", "Secret", namespace, seconds=1))
    assert 0.9 < time.monotonic() - started < 5


def test_a_watch_goes_on_over_an_outage(server: LocalCluster, connected: Connection, namespace: str) -> None:
    connected.create(_map("first"), namespace)
    connected.create(_map("doomed"), namespace)
    fields = "metadata.name!=kube-root-ca.crt"
    told: queue.Queue[tuple[str, str]] = queue.Queue()

    def follow() -> None:
        for event in connected.watch("v1", "ConfigMap", namespace, seconds=60, fields=fields):
            told.put((event.kind, event.obj["metadata"]["name"]))
            if event.obj["metadata"]["name"] == "last":
                return

    watching = threading.Thread(target=follow, daemon=True)
    watching.start()
    assert {told.get(timeout=30), told.get(timeout=30)} == {("ADDED", "first"), ("ADDED", "doomed")}
    server.kill_api()
    server.start_api()
    server.api.delete("ConfigMap", "doomed", namespace)
    server.api.create(_map("last"), namespace)
    watching.join(timeout=60)
    assert {told.get(timeout=1), told.get(timeout=1)} == {("DELETED", "doomed"), ("ADDED", "last")}
    assert told.empty()


# -- pods


def test_logs_and_programs_in_containers(server: LocalCluster, connected: Connection, namespace: str) -> None:
    pod = _running_pod(server, connected, namespace)
    server.write_pod_log("a first line\na last line")
    lines = list(connected.logs(pod, namespace))
    assert lines[-2:] == ["a first line", "a last line"]
    assert list(connected.logs(pod, namespace, tail=1)) == ["a last line"]
    assert list(connected.logs(pod, namespace, seconds=3600.5)) == lines
    done = connected.execute(pod, namespace, ["sh", "-c", "echo out; echo err >&2"], seconds=20)
    assert (done.stdout, done.stderr, done.code) == (b"out\n", b"err\n", 0)


def test_a_program_is_given_bytes(server: LocalCluster, connected: Connection, namespace: str) -> None:
    # Nobody tells the programs of simulated nodes that their input has ended; the unit tests have that.
    pod = _running_pod(server, connected, namespace)
    data = os.urandom(300_000)
    done = connected.execute(pod, namespace, ["head", "-c", str(len(data))], stdin=data, seconds=30)
    assert (done.code, done.stderr) == (0, b"")
    assert done.stdout == data


def test_a_program_that_does_not_end_is_late(
    server: LocalCluster, connected: Connection, namespace: str
) -> None:
    pod = _running_pod(server, connected, namespace)
    started = time.monotonic()
    problem = problem_of(lambda: connected.execute(pod, namespace, ["sleep", "60"], seconds=2))
    assert time.monotonic() - started < 8
    assert problem.reason == "timeout"
    assert "run sleep in pod web: it did not end within 2 s" in str(problem)


def test_a_pod_that_is_not_there(connected: Connection, namespace: str) -> None:
    assert problem_of(lambda: list(connected.logs("gone", namespace))).reason == "not-found"
    assert problem_of(lambda: connected.execute("gone", namespace, ["true"])).reason == "not-found"


def _running_pod(server: LocalCluster, connected: Connection, namespace: str) -> str:
    server.api.wait("the account is made", lambda: server.api.get("ServiceAccount", "default", namespace))
    spec = {"containers": [{"name": "main", "image": "web"}], "terminationGracePeriodSeconds": 0}
    connected.create(_object("v1", "Pod", "web", spec=spec), namespace)
    for event in connected.watch("v1", "Pod", namespace, seconds=60):
        if (event.obj.get("status") or {}).get("phase") == "Running":
            return "web"
    raise AssertionError("the pod did not run")


def _object(api_version: str, kind: str, name: str, **rest: Any) -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **rest}


def _map(name: str, **data: str) -> Object:
    return _object("v1", "ConfigMap", name, data=data)


def _tried(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ClusterProblem:
        return None


def _fresh(connected: Connection) -> Connection:
    connected._discovery.forget()
    return connected
