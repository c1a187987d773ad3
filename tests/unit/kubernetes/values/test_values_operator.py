"""The Dask operator: its release, what notebooks may ask of it, and that the real chart takes it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from upstream_charts import pod_templates, rendered
from value_sites import PLAIN, example, site

from tidehub.kubernetes.objects import CLUSTER_KINDS
from tidehub.kubernetes.values import network, operator
from tidehub.site.model import Site
from tidehub.site.reading.load import load_text


@pytest.fixture
def operated() -> Site:
    return site(
        PLAIN.replace("contact:", "people: 30, contact:"),
        more="dask: {engine: operator, worker: {cores: {min: 1, max: 2, default: 1}, "
        "memory: {min: 1 GiB, max: 4 GiB, default: 2 GiB}}}\n",
    )


def test_another_engine_has_nothing_of_it() -> None:
    gateway = example("protocoast")
    assert (operator.release(gateway), operator.objects(gateway), operator.hub_values(gateway)) == (
        None,
        [],
        {},
    )


def test_the_release_watches_its_own_namespace(operated: Site) -> None:
    release = operator.release(operated)
    assert release is not None
    assert (release.name, release.chart, release.version) == (
        "dask-operator",
        "dask-kubernetes-operator",
        "2026.3.0",
    )
    assert release.values == {
        "fullnameOverride": "dask-operator",
        "rbac": {"create": True, "cluster": False},
        "kopfArgs": ["--namespace=daskhub"],
    }


def test_notebooks_make_clusters_like_themselves(operated: Site) -> None:
    sizes = "{{'cpu': '1', 'memory': '2Gi'}}"
    assert operator.hub_values(operated) == {
        "singleuser": {
            "serviceAccountName": "daskkubernetes",
            "extraEnv": {
                "DASK_KUBERNETES__IMAGE": "$(JUPYTER_IMAGE_SPEC)",
                "DASK_KUBERNETES__RESOURCES": f"{{{{'requests': {sizes}, 'limits': {sizes}}}}}",
                "DASK_KUBERNETES__WORKER_COMMAND": "dask worker",
                "DASK_KUBERNETES__IDLE_TIMEOUT": "1200",
            },
        }
    }


def test_dask_reads_the_environment_as_it_is_meant(operated: Site) -> None:
    """KubeSpawner formats it, and Dask reads what is a Python literal as that (`dask.config.collect_env`)."""
    variables = operator.hub_values(operated)["singleuser"]["extraEnv"]
    sizes = {"cpu": "1", "memory": "2Gi"}
    read = ast.literal_eval(variables["DASK_KUBERNETES__RESOURCES"].format())
    assert read == {"requests": sizes, "limits": sizes}
    assert ast.literal_eval(variables["DASK_KUBERNETES__IDLE_TIMEOUT"].format()) == 1200


def test_users_may_use_the_operator_and_nothing_else(operated: Site) -> None:
    objects = operator.objects(operated)
    assert [one["kind"] for one in objects] == [
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "ResourceQuota",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ]
    assert {one["kind"] for one in objects[4:]} <= CLUSTER_KINDS
    role = objects[1]
    may = {
        (resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]
    }
    assert ("daskclusters", "create") in may
    assert not {("pods", "create"), ("pods/exec", "create"), ("secrets", "get"), ("services", "create")} & may
    assert objects[3]["spec"] == {"hard": {"count/daskclusters.kubernetes.dask.org": "60"}}


def test_validate_says_what_the_operator_does_not_hold() -> None:
    limits, program = (
        one
        for one in load_text(f"{PLAIN}dask: {{engine: operator}}\n", "tidehub.yaml").warnings
        if one.path == ("dask", "engine")
    )
    assert "dask.per_user" in limits.what and "dask-scheduler" in program.what
    assert "dask.per_user" not in str(load_text(PLAIN, "tidehub.yaml").warnings)


def test_the_real_chart_takes_it_and_its_pods_are_those_of_the_policies(
    operated: Site, tmp_path: Path
) -> None:
    objects = rendered(operated, tmp_path)["dask-operator"]
    template = pod_templates(objects)["dask-operator"]
    assert template["metadata"]["labels"] == operator.PODS
    assert {one["kind"] for one in objects} & {"ClusterRole", "ClusterRoleBinding"} == set()
    (container,) = template["spec"]["containers"]
    assert "--namespace=daskhub" in container["args"]
    assert "--all-namespaces" not in container["args"]
    assert [one["metadata"]["name"] for one in network.objects(operated)] == [
        "dask-scheduler",
        "dask-worker",
        "dask-egress",
    ]
