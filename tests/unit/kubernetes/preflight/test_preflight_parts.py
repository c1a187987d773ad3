from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tidehub.kubernetes.cluster.port import Access
from tidehub.kubernetes.preflight import report
from tidehub.kubernetes.preflight.edges.registry import parse
from tidehub.kubernetes.preflight.machines import how_many, machines
from tidehub.kubernetes.preflight.model import Finding
from tidehub.kubernetes.preflight.permissions import snippet
from tidehub.kubernetes.preflight.selecting import selects
from tidehub.kubernetes.preflight.workloads import pod_amounts, told, user_pods, written
from tidehub.site.reading.load import load_preset

GIB = 2**30


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("traefik:3.3.5", ("docker.io", "library/traefik", "3.3.5", None)),
        ("pangeo/ml-notebook", ("docker.io", "pangeo/ml-notebook", "latest", None)),
        ("docker.io/traefik:1", ("docker.io", "library/traefik", "1", None)),
        ("quay.io/a/b/c:v1", ("quay.io", "a/b/c", "v1", None)),
        ("localhost/a:1", ("localhost", "a", "1", None)),
        ("registry:5000/a:1", ("registry:5000", "a", "1", None)),
        ("127.0.0.1:5000/a/b", ("127.0.0.1:5000", "a/b", "latest", None)),
        (f"ghcr.io/a@sha256:{'0' * 64}", ("ghcr.io", "a", "latest", f"sha256:{'0' * 64}")),
        (f"ghcr.io/a:1@sha256:{'0' * 64}", ("ghcr.io", "a", "1", f"sha256:{'0' * 64}")),
    ],
)
def test_names_of_images(image: str, parts: tuple[Any, ...]) -> None:
    found = parse(image)
    assert found is not None
    assert (found.host, found.name, found.tag, found.digest) == parts


@pytest.mark.parametrize(
    "image", ["", "Quay.io/A:1", "a b:1", "a:", "a:-x", "quay.io/a@sha256:12", "http://quay.io/a:1"]
)
def test_what_is_no_name_of_an_image(image: str) -> None:
    assert parse(image) is None


def _container(cpu: str = "", memory: str = "") -> dict[str, Any]:
    return {
        "resources": {
            "requests": {name: value for name, value in (("cpu", cpu), ("memory", memory)) if value}
        }
    }


def _limited(memory: str) -> dict[str, Any]:
    return {"resources": {"limits": {"memory": memory}}}


def test_a_pod_requests_the_sum_of_its_containers() -> None:
    spec = {"containers": [_container("500m", "1Gi"), _container("1", "512Mi")]}
    assert pod_amounts(spec, "requests") == {"cpu": Decimal("1.5"), "memory": Decimal(3 * GIB / 2)}


def test_an_init_container_counts_where_it_is_the_greatest() -> None:
    spec = {"containers": [_container("500m", "1Gi")], "initContainers": [_container("2", "256Mi")]}
    assert pod_amounts(spec, "requests") == {"cpu": Decimal(2), "memory": Decimal(GIB)}


def test_a_sidecar_counts_beside_the_containers() -> None:
    sidecar = _container("1", "1Gi") | {"restartPolicy": "Always"}
    spec = {"containers": [_container("500m", "1Gi")], "initContainers": [sidecar]}
    assert pod_amounts(spec, "requests")["cpu"] == Decimal("1.5")


def test_a_limit_without_a_request_is_requested() -> None:
    assert pod_amounts({"containers": [_limited("1Gi")]}, "requests") == {"memory": Decimal(GIB)}
    assert pod_amounts({"containers": [_container("1", "")]}, "limits") == {}


def _node(name: str = "n", cpu: str = "4", memory: str = "8Gi", **changes: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": changes.get("spec", {}),
        "status": {
            "allocatable": {"cpu": cpu, "memory": memory, "pods": changes.get("pods", "110")},
            "conditions": [{"type": "Ready", "status": changes.get("ready", "True")}],
        },
    }


def _pod(node: str, phase: str = "Running", cpu: str = "1") -> dict[str, Any]:
    return {"spec": {"nodeName": node, "containers": [_container(cpu, "1Gi")]}, "status": {"phase": phase}}


def test_what_runs_is_taken_off_and_what_has_ended_is_not() -> None:
    pods = [_pod("n"), _pod("n", "Pending"), _pod("n", "Succeeded"), _pod("elsewhere")]
    (found,) = machines([_node()], pods)
    assert (found.free["cpu"], found.free["pods"]) == (2, 108)


def test_how_many_fit_is_counted_by_node() -> None:
    wanted = {"cpu": Decimal(3), "memory": Decimal(GIB)}
    # Six free cores, but three on one node only.
    assert how_many(machines([_node("a"), _node("b", cpu="2")], []), wanted) == 1
    assert how_many(machines([_node("a", pods="1"), _node("b")], []), {"cpu": Decimal(1)}) == 5
    assert how_many(machines([_node("a")], [_pod("a", cpu="9")]), wanted) == 0


@pytest.mark.parametrize(
    ("spec", "is_open"),
    [
        ({}, True),
        ({"unschedulable": True}, False),
        ({"taints": [{"key": "gpu", "effect": "NoSchedule"}]}, False),
        ({"taints": [{"key": "gpu", "effect": "PreferNoSchedule"}]}, True),
        ({"taints": [{"key": "hub.jupyter.org/dedicated", "value": "user", "effect": "NoSchedule"}]}, True),
    ],
)
def test_which_nodes_are_open(spec: dict[str, Any], is_open: bool) -> None:
    assert machines([_node(spec=spec)], [])[0].open is is_open
    assert not machines([_node(spec=spec, ready="False")], [])[0].open


def test_what_users_start_follows_the_site() -> None:
    site = load_preset("protocoast").site
    names = [one.name for one in user_pods(site)]
    assert names == [
        "a server of profile ProtoCoast - main",
        "a server of profile ProtoCoast - develop",
        "a Dask scheduler",
        "the largest Dask worker that users may choose",
    ]
    server = user_pods(site)[0]
    assert server.requests == {"cpu": 1, "memory": 5 * GIB, "ephemeral-storage": 4 * GIB}
    assert server.limits["memory"] == 10 * GIB


@pytest.mark.parametrize(
    ("name", "number", "text"),
    [
        ("cpu", Decimal(1), "1 core"),
        ("requests.cpu", Decimal("0.5"), "0.5 cores"),
        ("memory", Decimal(3 * GIB / 2), "1.5 GiB"),
        ("requests.storage", Decimal(2**40), "1 TiB"),
        ("memory", Decimal(1000), "1000 bytes"),
        ("pods", Decimal(3), "3"),
        ("limits.memory", Decimal(10 * GIB), "10 GiB"),
    ],
)
def test_amounts_are_written_for_users(name: str, number: Decimal, text: str) -> None:
    assert written(name, number) == text


def test_several_amounts_say_what_they_are() -> None:
    amounts = {
        "cpu": Decimal(2),
        "memory": Decimal(GIB),
        "ephemeral-storage": Decimal(4 * GIB),
        "pods": Decimal(0),
    }
    assert told(amounts) == "2 cores, 1 GiB memory, 4 GiB scratch"
    assert told({}) == "nothing"


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        (None, True),
        ({}, True),
        ({"matchLabels": {"a": "1"}}, True),
        ({"matchLabels": {"a": "2"}}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, True),
        ({"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["1"]}]}, True),
        ({"matchExpressions": [{"key": "b", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["0"]}]}, False),
    ],
)
def test_selectors(selector: dict[str, Any] | None, chosen: bool) -> None:
    assert selects(selector, {"a": "1"}) is chosen


def test_the_role_to_ask_for() -> None:
    missing = [
        Access("create", "deployments", "apps", "n"),
        Access("patch", "deployments", "apps", "n"),
        Access("create", "statefulsets", "apps", "n"),
        Access("patch", "statefulsets", "apps", "n"),
        Access("create", "pods/exec", "", "n"),
        Access("patch", "customresourcedefinitions", "apiextensions.k8s.io"),
    ]
    assert snippet(missing, "n") == "\n".join(
        [
            "apiVersion: rbac.authorization.k8s.io/v1",
            "kind: Role",
            "metadata:",
            "  name: tidehub-deploy",
            "  namespace: n",
            "rules:",
            '- apiGroups: ["apps"]',
            "  resources: [deployments, statefulsets]",
            "  verbs: [create, patch]",
            '- apiGroups: [""]',
            "  resources: [pods/exec]",
            "  verbs: [create]",
            "---",
            "apiVersion: rbac.authorization.k8s.io/v1",
            "kind: ClusterRole",
            "metadata:",
            "  name: tidehub-deploy-n",
            "rules:",
            '- apiGroups: ["apiextensions.k8s.io"]',
            "  resources: [customresourcedefinitions]",
            "  verbs: [patch]",
        ]
    )


FINDINGS = [
    Finding("api-version", "ok", "the server is v1.34.4", "nothing", ("chart: any",), "Cluster"),
    Finding("nodes", "problem", "no node is ready", "have them repaired\nand again", ("node-1",), "Cluster"),
    Finding("dns", "warning", "the name is new", "wait", (), "Exposure"),
    Finding("images", "unknown", "the registry was not asked", "", (), "Images"),
]


def test_the_report_has_the_remedy_under_each_problem() -> None:
    assert list(report.lines(FINDINGS)) == [
        "Cluster",
        "  ✓ api-version: the server is v1.34.4",
        "  ✗ nodes: no node is ready",
        "      node-1",
        "      to do: have them repaired",
        "             and again",
        "Exposure",
        "  ! dns: the name is new",
        "      to do: wait",
        "Images",
        "  ? images: the registry was not asked",
    ]
    assert "  PROBLEM: nodes: no node is ready" in list(report.lines(FINDINGS, plain=True))
    assert all(ord(letter) < 128 for line in report.lines(FINDINGS, plain=True) for letter in line)


def test_how_it_stands_in_one_line() -> None:
    assert report.summary(FINDINGS) == "Not ready: 1 problem, 1 warning, 1 unknown; 1 items are in order."
    assert report.summary(FINDINGS[2:]) == "Ready: 1 warning, 1 unknown; 0 items are in order."
    assert report.summary(FINDINGS[:1]) == "Ready: 1 items are in order."
    assert not report.ready(FINDINGS)
    assert report.ready(FINDINGS[2:])


def test_as_json() -> None:
    found = report.as_dict(FINDINGS, cluster="main", namespace="n")
    assert (found["version"], found["ready"], found["cluster"], found["namespace"]) == (1, False, "main", "n")
    assert found["findings"][1] == {
        "group": "Cluster",
        "item": "nodes",
        "state": "problem",
        "what": "no node is ready",
        "fix": "have them repaired\nand again",
        "evidence": ["node-1"],
    }
