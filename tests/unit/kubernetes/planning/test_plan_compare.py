"""What a plan says of one release in a cluster in memory."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from plan_world import NAMESPACE, World, config_map, crd, deployment, helms, pvc, secret

from tidehub.helm.engine import Revision
from tidehub.kubernetes.cluster.port import ClusterProblem
from tidehub.kubernetes.deploying.record import Deployed, ReleaseState
from tidehub.kubernetes.deploying.record import config_map as record_map
from tidehub.kubernetes.objects import ObjectId, write_manifest
from tidehub.kubernetes.planning.model import Plan
from tidehub.kubernetes.planning.observe import LiveObjects
from tidehub.kubernetes.planning.words import lines


def actions(plan: Plan) -> dict[str, str]:
    return {str(change.id): change.action for change in plan.changes}


def fields(plan: Plan) -> list[tuple[str, Any, Any, str]]:
    return [
        (field.change.where, field.change.old, field.change.new, field.cause)
        for change in plan.changes
        for field in change.fields
    ]


def test_nothing_would_change_where_all_is_as_rendered() -> None:
    world = World()
    objects = [config_map(a="1"), deployment(), pvc(), secret("hub", token="abcdefgh")]
    world.deployed(*objects)
    plan = world.plan(*objects)
    assert plan.empty and plan.same == 4
    assert not plan.changes and not plan.findings and not plan.drift
    assert plan.releases[0].action == "same"
    assert {verb for verb, _ in world.cluster.asked} == {"get", "find"}


def test_a_first_installation() -> None:
    world = World()
    plan = world.plan(config_map(), deployment())
    assert actions(plan) == {"ConfigMap hub": "add", "Deployment hub": "add"}
    assert plan.releases[0].action == "install" and plan.releases[0].old_version is None
    assert ("create", "hub") in world.cluster.asked
    assert not plan.empty and not plan.refusals
    assert plan.counts == {"add": 2, "change": 0, "remove": 0, "keep": 0}


def test_added_changed_and_removed() -> None:
    world = World()
    world.deployed(config_map("a", x="1"), config_map("b"), config_map("same"))
    plan = world.plan(config_map("a", x="2"), config_map("c"), config_map("same"))
    assert actions(plan) == {"ConfigMap a": "change", "ConfigMap c": "add", "ConfigMap b": "remove"}
    assert fields(plan) == [("data.x", "1", "2", "site")]
    assert plan.same == 1 and plan.releases[0].action == "upgrade"


def test_a_kept_object_leaves_its_release_and_stays() -> None:
    world = World()
    world.deployed(pvc(policy="keep"), config_map())
    plan = world.plan(config_map())
    assert actions(plan) == {"PersistentVolumeClaim hub-db-dir": "keep"}
    assert not plan.dangers
    assert ("delete", "hub-db-dir") not in world.cluster.asked


def test_what_somebody_set_by_hand_is_put_back_and_named() -> None:
    world = World()
    made = deployment()
    world.deployed(made)
    by_hand = helms(made)
    by_hand["spec"]["replicas"] = 3
    by_hand["spec"]["paused"] = True
    by_hand["metadata"]["managedFields"] = [
        {"manager": "helm", "operation": "Apply", "fieldsV1": {"f:spec": {"f:template": {}}}},
        {
            "manager": "kubectl-edit",
            "operation": "Update",
            "fieldsV1": {"f:spec": {"f:replicas": {}, "f:paused": {}}},
        },
    ]
    world.cluster.put(by_hand)
    plan = world.plan(made)
    assert fields(plan) == [("spec.replicas", 3, 1, "drift")]
    told = {
        drift.change.where: (drift.change.old, drift.change.new, drift.managers, drift.reset)
        for drift in plan.drift
        if drift.change
    }
    assert told == {
        "spec.replicas": (1, 3, ("kubectl-edit",), True),
        "spec.paused": (None, True, ("kubectl-edit",), False),
    }


def test_what_a_deployment_would_not_touch_leaves_the_plan_empty() -> None:
    world = World()
    made = config_map()
    world.deployed(made)
    by_hand = helms(made)
    by_hand["metadata"]["annotations"]["note"] = "mine"
    by_hand["metadata"]["managedFields"] = [
        {"manager": "kubectl-annotate", "fieldsV1": {"f:metadata": {"f:annotations": {"f:note": {}}}}}
    ]
    world.cluster.put(by_hand)
    plan = world.plan(made)
    assert plan.empty
    assert [(one.reset, one.managers) for one in plan.drift] == [(False, ("kubectl-annotate",))]


def test_what_controllers_write_is_no_drift() -> None:
    world = World()
    made = pvc()
    world.deployed(made)
    bound = helms(made)
    bound["spec"]["volumeName"] = "pvc-1"
    bound["metadata"]["managedFields"] = [
        {"manager": "kube-controller-manager", "fieldsV1": {"f:spec": {"f:volumeName": {}}}}
    ]
    world.cluster.put(bound)
    plan = world.plan(made)
    assert plan.empty and not plan.drift


def test_an_object_that_somebody_deleted_comes_back() -> None:
    world = World()
    world.deployed(config_map(), deployment())
    world.cluster.objects = {id: obj for id, obj in world.cluster.objects.items() if id.kind != "ConfigMap"}
    plan = world.plan(config_map(), deployment())
    assert actions(plan) == {"ConfigMap hub": "add"}
    assert plan.changes[0].summary == ("somebody deleted it since the last deployment",)
    assert [(str(one.id), one.change) for one in plan.drift] == [("ConfigMap hub", None)]


def test_a_version_that_changes_is_an_upgrade_though_no_object_does() -> None:
    world = World(version="4.4.0")
    world.deployed(config_map(), version="4.3.0")
    plan = world.plan(config_map())
    assert not plan.changes and not plan.empty
    assert (plan.releases[0].action, plan.releases[0].old_version) == ("upgrade", "4.3.0")


@pytest.mark.parametrize(
    ("status", "weight"), [("pending-upgrade", "danger"), ("failed", "notice"), ("uninstalling", "notice")]
)
def test_a_release_that_is_not_finished_is_compared_with_its_last_good_revision(
    status: str, weight: str
) -> None:
    world = World()
    world.deployed(config_map(a="1"))
    world.helm.has("jupyterhub", [config_map(a="broken")], status=status)
    world.helm.revisions["jupyterhub"] = (
        Revision(1, "deployed", "jupyterhub-4.4.0", "", "", ""),
        Revision(2, status, "jupyterhub-4.4.0", "", "", ""),
    )
    world.helm.manifests["jupyterhub", 1] = write_manifest([config_map(a="1")])
    plan = world.plan(config_map(a="1"))
    assert not plan.changes and not plan.empty
    assert plan.releases[0].action == "finish"
    assert [(one.kind, one.weight) for one in plan.findings] == [("pending", weight)]


def test_an_uninstalled_release_is_installed() -> None:
    world = World()
    world.helm.has("jupyterhub", [config_map()], status="uninstalled")
    plan = world.plan(config_map())
    assert plan.releases[0].action == "install" and actions(plan) == {"ConfigMap hub": "add"}


def test_in_a_new_namespace_nothing_is_tried() -> None:
    world = World()
    world.cluster.objects.clear()
    plan = world.plan(config_map(), deployment())
    assert actions(plan) == {
        f"Namespace {NAMESPACE}": "add",
        "ConfigMap hub": "add",
        "Deployment hub": "add",
    }
    assert [(one.kind, len(one.objects)) for one in plan.findings] == [("untried", 2)]
    assert not plan.refusals
    assert "create" not in {verb for verb, _ in world.cluster.asked}


def test_who_may_not_see_namespaces_plans_all_the_same() -> None:
    world = World()
    world.deployed(config_map("x"))
    world.cluster.refuse("get", NAMESPACE, "namespaces is forbidden", "forbidden")
    assert world.plan(config_map("x")).empty


def test_objects_of_a_kind_that_the_deployment_brings_are_not_tried() -> None:
    world = World()
    world.crds = [crd("ingressroutes", "traefik.io", "v1alpha1")]
    route = {
        "apiVersion": "traefik.io/v1alpha1",
        "kind": "Ingressroutes",
        "metadata": {"name": "r"},
        "spec": {},
    }
    plan = world.plan(route)
    assert set(actions(plan).values()) == {"add"} and len(plan.changes) == 2
    assert {one.kind for one in plan.findings} == {"crd", "untried"} and not plan.refusals


def test_a_kind_that_nobody_serves_stops_the_deployment() -> None:
    world = World()
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "r"},
    }
    plan = world.plan(route)
    (finding,) = plan.refusals
    assert finding.what == "The cluster does not know HTTPRoute of gateway.networking.k8s.io/v1."
    assert not plan.changes and not plan.empty


def test_a_record_with_a_kind_that_is_gone_is_rewritten_by_the_deployment() -> None:
    world = World()
    old = {"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget", "metadata": {"name": "hub"}}
    world.deployed(old, config_map())
    plan = world.plan(config_map())
    (finding,) = plan.findings
    assert (finding.kind, finding.weight) == ("unserved", "notice")
    assert "PodDisruptionBudget of policy/v1beta1" in finding.what and "rewrites the record" in finding.means


@pytest.mark.parametrize(
    ("verb", "reason", "kind", "what"),
    [
        (
            "patch",
            "invalid",
            "immutable",
            "Deployment.apps hub is invalid: spec.selector: field is immutable",
        ),
        ("patch", "forbidden", "refused", "deployments.apps hub is forbidden"),
        ("patch", "invalid", "refused", "spec.replicas: Invalid value: -1"),
    ],
)
def test_what_the_server_refuses_is_said_in_its_words(verb: str, reason: Any, kind: str, what: str) -> None:
    world = World()
    world.deployed(deployment())
    world.cluster.refuse(verb, "hub", what, reason)
    plan = world.plan(deployment(image="hub:2"))
    (finding,) = plan.refusals
    assert finding.kind == kind and what in finding.what
    assert actions(plan) == {"Deployment hub": "change"}
    assert fields(plan)[0][:3] == ("spec.template.spec.containers[hub].image", "hub:1", "hub:2")


def test_quota_stops_an_addition() -> None:
    world = World()
    world.cluster.refuse("create", "hub-db-dir", "exceeded quota: homes", "quota")
    plan = world.plan(pvc())
    assert [one.what for one in plan.refusals] == [
        "The server refuses to create PersistentVolumeClaim hub-db-dir: exceeded quota: homes"
    ]


def test_a_removal_that_is_forbidden() -> None:
    world = World()
    world.deployed(config_map(), config_map("old"))
    world.cluster.refuse("delete", "old", "you may not", "forbidden")
    assert [one.what for one in world.plan(config_map()).refusals] == [
        "The server refuses to delete ConfigMap old: you may not"
    ]


def test_what_may_not_be_read_is_said_once() -> None:
    world = World()
    world.cluster.refuse("get", "a", "secrets is forbidden", "forbidden")
    world.cluster.refuse("get", "b", "secrets is forbidden", "forbidden")
    plan = world.plan(secret("a"), secret("b"))
    (finding,) = plan.refusals
    assert finding.what == "You may not read Secret: secrets is forbidden." and len(finding.objects) == 2


@pytest.mark.parametrize("reason", ["unreachable", "timeout", "unauthorized"])
def test_a_server_that_does_not_answer_is_no_finding(reason: Any) -> None:
    world = World()
    world.deployed(config_map())
    world.cluster.refuse("get", "hub", "no answer", reason)
    with pytest.raises(ClusterProblem, match="no answer"):
        world.plan(config_map())


def test_a_server_that_fell_silent_is_not_asked_for_each_object() -> None:
    world = World()
    cluster: Any = world.cluster
    live = LiveObjects(cluster)
    world.cluster.refuse("get", "a", "no answer", "timeout")
    for name in "abc":
        live.fetch(ObjectId("v1", "ConfigMap", NAMESPACE, name))
    assert world.cluster.asked == [("get", "a")]
    with pytest.raises(ClusterProblem, match="no answer"):
        live.get(ObjectId("v1", "ConfigMap", NAMESPACE, "c"))


def test_own_objects_are_applied_and_those_of_the_last_deployment_removed() -> None:
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "p", "labels": {"app.kubernetes.io/managed-by": "tidehub"}},
        "spec": {"podSelector": {}},
    }
    old = deepcopy(policy)
    old["metadata"]["name"] = "old"
    world = World()
    world.own = [policy]
    live = deepcopy(policy)
    live["spec"]["podSelector"] = {"matchLabels": {"a": "b"}}
    stranger = deepcopy(old)
    stranger["metadata"] = {"name": "stranger"}
    done = Deployed(1, "", "", "", "2026.11", "split", (), (old, stranger))
    world.deployed(config_map("x"))
    world.cluster.put(live, old, stranger, record_map(replace(world.record, revisions=(done,)), NAMESPACE))
    plan = world.plan(config_map("x"))
    assert actions(plan)["NetworkPolicy old"] == "remove"
    assert "NetworkPolicy stranger" not in actions(plan)
    assert ("apply", "p") in world.cluster.asked and ("delete", "old") in world.cluster.asked


def test_planning_changes_nothing_in_what_it_was_given() -> None:
    world = World()
    world.deployed(config_map(a="1"))
    given = [config_map(a="2"), deployment(), secret("s", a="b")]
    before, live = deepcopy(given), deepcopy(world.cluster.objects)
    world.plan(*given)
    assert given == before and world.cluster.objects == live


def test_crds_are_applied_by_us_and_their_schemas_only_counted() -> None:
    old, new = (crd("daskclusters", "gateway.dask.org", "v1alpha1") for _ in range(2))
    new["spec"]["versions"][0]["schema"] = {"openAPIV3Schema": {"type": "object", "properties": {"a": {}}}}
    world = World()
    world.cluster.put(old)
    world.crds = [new]
    plan = world.plan()
    (change,) = plan.changes
    assert change.part == "crd" and change.release is None and not change.fields
    assert change.summary == ("version v1alpha1: 1 field of its schema change",)
    world.cluster.put(new)
    assert world.plan().changes == ()


def test_own_objects_as_deploy_writes_them_are_no_change() -> None:
    world = World()
    world.own = [config_map("ours", a="1")]
    live = config_map("ours", a="1")
    live["metadata"] |= {
        "labels": {"app.kubernetes.io/managed-by": "tidehub"},
        "annotations": {"tidehub/digest": "5d41402abc4b2a76"},
    }
    world.deployed(config_map("x"))
    world.cluster.put(live)
    assert world.plan(config_map("x")).empty


def test_values_that_no_object_tells_are_an_upgrade() -> None:
    world = World()
    world.deployed(config_map())
    world.values = {"debug": True}
    plan = world.plan(config_map())
    assert not plan.changes and not plan.empty and plan.releases[0].action == "upgrade"
    assert lines(plan)[-1] == (
        "jupyterhub: jupyterhub 4.4.0, revision 1 now: other values, and no object differs"
    )


def test_a_release_that_the_site_has_no_more_is_uninstalled_and_its_data_stays() -> None:
    world = World()
    world.deployed(config_map())
    gateway = [config_map("api"), pvc(), pvc("cache")]
    world.helm.has("dask-gateway", gateway, version="2026.3.0")
    world.cluster.put(*(helms(obj, "dask-gateway") for obj in gateway))
    state = ReleaseState("dask-gateway", "dask-gateway", "2026.3.0", "", "", "", 1)
    world.cluster.put(record_map(world.record.with_release(state), NAMESPACE))
    plan = world.plan(config_map())
    assert actions(plan) == {
        "ConfigMap api": "remove",
        "PersistentVolumeClaim hub-db-dir": "keep",
        "PersistentVolumeClaim cache": "remove",
    }
    assert plan.release("dask-gateway").action == "remove"
    assert [one.what for one in plan.findings] == [
        "The PVC cache would be deleted: what is on its volume is lost."
    ]
    assert (
        "dask-gateway: dask-gateway 2026.3.0 would be uninstalled: the site has no such release any more"
        in lines(plan)
    )


def test_what_an_uninstalled_release_left_is_taken_over() -> None:
    world = World()
    world.cluster.put(helms(pvc(), "daskhub"))
    assert [one.kind for one in world.plan(pvc()).findings] == ["conflict"]
    world.cluster.put(
        record_map(replace(world.record, kept=("PersistentVolumeClaim/hub-db-dir",)), NAMESPACE)
    )
    assert not world.plan(pvc()).findings
    world.helm.has("daskhub", [], chart="monitoring")
    assert [one.kind for one in world.plan(pvc()).findings] == ["conflict"]


def test_what_a_namespace_left_that_is_gone_is_taken_over() -> None:
    world = World()
    other = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "old"}}
    world.cluster.put(helms(config_map(), "jupyterhub", "old"), other)
    assert [one.kind for one in world.plan(config_map()).findings] == ["conflict"]
    other["metadata"]["deletionTimestamp"] = "2026-11-22T09:00:00Z"
    world.cluster.put(other)
    assert not world.plan(config_map()).findings
