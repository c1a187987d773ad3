"""`plan` against a real API server, with stand-in charts. `test_plan_real_charts.py` does so with the upstream ones."""

from __future__ import annotations

import base64
import gzip
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import installed_render
import pytest
from cluster_api import Api, Refused
from deployed_site import CURRENT, DASKHUB, OLD, SiteOnCluster
from local_cluster import LocalCluster
from standin_charts import StandinCharts

from tidehub.helm.problems import HelmProblem
from tidehub.kubernetes.cluster.port import ClusterProblem, ServedKind
from tidehub.kubernetes.deploying.deploy import deploy
from tidehub.kubernetes.planning.model import Plan
from tidehub.kubernetes.planning.plan import plan
from tidehub.kubernetes.planning.words import lines, to_json
from tidehub.kubernetes.rendering.model import Rendered

HELM_4 = pytest.mark.parametrize("helm_program", [4], indirect=True, ids=["helm4"])
"""For what does not depend on Helm's version."""
_BUSY = ("Endpoints", "EndpointSlice", "Event", "Lease", "Node", "Pod", "PersistentVolume")
"""Kinds that the cluster's own parts write all the time."""
POLICY: dict[str, Any] = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "ours", "labels": {"app.kubernetes.io/managed-by": "tidehub"}},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
}


@pytest.fixture
def site(
    cluster: LocalCluster, namespace: str, standin_charts: StandinCharts, helm_program: Path
) -> Iterator[SiteOnCluster]:
    if not isinstance(cluster, LocalCluster):
        pytest.skip("storage classes of a given cluster are its own")
    cluster.storage_class("homes", expands=True)
    found = SiteOnCluster.on(cluster, namespace, standin_charts, helm_program)
    want(found)
    yield found
    # Some objects belong to the whole cluster: the next test's releases must not meet them.
    for release in found.revisions():
        found.helm().uninstall(release, namespace, timeout=60)


def want(site: SiteOnCluster, **sections: Any) -> None:
    """Sets values of the jupyterhub chart, by section. Without the hook that pulls images: it takes its time."""
    hub = {"db": {"pvc": {"storageClassName": "homes"}}}
    site.values["jupyterhub"] = {"hub": hub, "prePuller": {"hook": {"enabled": False}}, **sections}
    site.values["daskhub"] = {"jupyterhub": site.values["jupyterhub"]}


def planned(site: SiteOnCluster, rendered: Rendered, kubeconfig: Path | None = None) -> Plan:
    return plan(rendered, site.cluster(kubeconfig), site.helm(kubeconfig))


def install(site: SiteOnCluster, rendered: Rendered) -> None:
    assert site.local is not None
    installed_render.install(rendered, site.cluster(), site.helm(), site.local.api)


def actions(found: Plan) -> dict[str, str]:
    return {str(change.id): change.action for change in found.changes}


def told(found: Plan) -> str:
    return "\n".join(lines(found))


@pytest.mark.parametrize(
    ("charts", "model"),
    [(CURRENT, "split"), (OLD, "split"), (DASKHUB, "daskhub")],
    ids=["current", "old", "daskhub"],
)
def test_nothing_would_change_after_an_installation(site: SiteOnCluster, charts: Any, model: str) -> None:
    site.objects = (POLICY,)
    rendered = site.rendered(charts, model)
    before = planned(site, rendered)
    assert {change.action for change in before.changes if change.part != "crd"} == {"add"}
    assert before.counts["add"] >= len(rendered.ids()) - len(rendered.crds)
    assert not before.refusals, told(before)
    install(site, rendered)
    after = planned(site, site.rendered(charts, model))
    assert after.empty and not after.drift, told(after)
    assert lines(after)[1] == "Nothing would change."
    assert after.same == len(rendered.ids())


def test_what_changes_is_said_and_nothing_is_written(site: SiteOnCluster) -> None:
    """The issue's promise: by the server's own audit log, planning is reads and dry runs."""
    site.objects = (POLICY,)
    install(site, site.rendered())
    local = site.local
    assert local is not None
    hub = {"image": {"tag": "another"}, "db": {"pvc": {"storageClassName": "homes", "storage": "2Gi"}}}
    ingress = {"enabled": True, "hosts": ["hub.example.org"]}
    want(site, hub=hub, ingress=ingress, singleuser={"networkPolicy": {"enabled": False}})
    site.values["dask-gateway"] = {"gateway": {"extraConfig": {"x": "c.Y.z = 1"}}}
    changed = {**POLICY, "metadata": {**POLICY["metadata"], "name": "more"}}
    site.objects = ({**POLICY, "spec": {**POLICY["spec"], "policyTypes": ["Ingress", "Egress"]}}, changed)
    rendered = site.rendered()
    before, since = _versions(site), time.time()
    found = planned(site, rendered)
    events = local.audit_events(since)
    assert _versions(site) == before
    assert local.writes(since) == []

    # The log did hold what was asked, dry runs of every kind among it.
    verbs = {event["verb"] for event in events if "dryRun=All" in event["requestURI"]}
    assert verbs == {"create", "patch", "delete"}
    assert {event["verb"] for event in events if "dryRun=All" not in event["requestURI"]} <= {"get", "list"}
    assert len(events) > len(rendered.ids())

    assert not found.refusals, told(found)
    fields = {
        (str(change.id), field.change.where): (field.change.old, field.change.new)
        for change in found.changes
        for field in change.fields
        if field.cause == "site"
    }
    hub = "spec.template.spec.containers[hub].image"
    assert fields["Deployment hub", hub] == ("registry.invalid/hub:stand-in", "registry.invalid/hub:another")
    assert fields["PersistentVolumeClaim hub-db-dir", "spec.resources.requests.storage"] == ("1Gi", "2Gi")
    assert fields["NetworkPolicy ours", "spec.policyTypes"] == (["Ingress"], ["Ingress", "Egress"])
    assert (
        actions(found)["NetworkPolicy more"] == "add"
        and actions(found)["NetworkPolicy singleuser"] == "remove"
    )
    assert [one.what for one in found.findings if "hub restarts" in one.what] == [
        "The hub restarts because its image changes from registry.invalid/hub:stand-in to registry.invalid/hub:another."
    ]
    assert "a" * 64 not in told(found) + json.dumps(to_json(found))

    # And a deployment does just that: nothing is left.
    install(site, rendered)
    again = planned(site, site.rendered())
    assert again.empty, told(again)


def _versions(site: SiteOnCluster) -> dict[str, str]:
    """What every object that a plan could touch counts its changes by.

    Controllers go on working: they write the status, which leaves a generation as it is.
    """
    assert site.local is not None
    cluster, api = site.cluster(), site.local.api
    found: dict[str, str] = {}
    for kind in cluster.served():
        if "list" not in kind.verbs or kind.kind in _BUSY:
            continue
        where = site.namespace if kind.namespaced else ""
        for obj in api.wait(f"{kind.kind} is listed", partial(_listed, api, kind, where)):
            meta = obj["metadata"]
            # What an earlier test deleted may be on its way out; what the plan deleted is then missing.
            if "resourceVersion" in meta and "deletionTimestamp" not in meta:
                own = meta.get("generation") or meta["resourceVersion"]
                found[f"{kind.api_version} {kind.kind} {meta['name']}"] = f"{meta['uid']} {own}"
    return found


def _listed(api: Api, kind: ServedKind, namespace: str) -> list[dict[str, Any]] | None:
    try:
        # A kind whose CRD was just changed cannot be read for a moment.
        return api.list(kind.kind, namespace, version=kind.api_version) or [{"metadata": {}}]
    except Refused as refusal:
        if refusal.status == 429:
            return None
        raise


@HELM_4
def test_drift_is_told_with_who_did_it_and_put_back(site: SiteOnCluster) -> None:
    install(site, site.rendered())
    assert site.local is not None
    api = site.local.api
    for patch in ({"spec": {"replicas": 0}}, {"spec": {"revisionHistoryLimit": 3}}):
        api.call(
            "PATCH",
            f"/apis/apps/v1/namespaces/{site.namespace}/deployments/hub",
            patch,
            query={"fieldManager": "kubectl-edit"},
            content_type="application/merge-patch+json",
        )
    api.delete("ServiceAccount", "hub", site.namespace)
    found = planned(site, site.rendered())
    drift = {
        (str(one.id), one.change.where if one.change else ""): (one.managers, one.reset)
        for one in found.drift
    }
    assert drift == {
        ("Deployment hub", "spec.replicas"): (("kubectl-edit",), True),
        ("Deployment hub", "spec.revisionHistoryLimit"): (("kubectl-edit",), False),
        ("ServiceAccount hub", ""): ((), True),
    }
    assert actions(found) == {"ServiceAccount hub": "add", "Deployment hub": "change"}
    assert {field.cause for change in found.changes for field in change.fields} == {"drift"}
    install(site, site.rendered())
    after = planned(site, site.rendered())
    assert after.empty, told(after)
    assert [one.change.where for one in after.drift if one.change] == ["spec.revisionHistoryLimit"]


@HELM_4
def test_another_model_is_in_the_way(site: SiteOnCluster) -> None:
    install(site, site.rendered(DASKHUB, "daskhub"))
    found = planned(site, site.rendered(CURRENT, "split"))
    kinds = [(one.kind, one.weight) for one in found.findings[:2]]
    assert kinds == [("conflict", "refusal"), ("model", "refusal")]
    conflict = found.findings[0]
    assert f"belong to the release daskhub in the namespace {site.namespace}" in conflict.what
    assert "PersistentVolumeClaim hub-db-dir" in {str(id) for id in conflict.objects}
    assert not found.empty


@HELM_4
def test_the_way_from_the_old_pair_to_the_current_one(site: SiteOnCluster) -> None:
    install(site, site.rendered(OLD))
    api = site.local.api if site.local else None
    assert api is not None
    for name in ("ingressroutes", "middlewares"):
        if api.get("CustomResourceDefinition", f"{name}.traefik.io", version="apiextensions.k8s.io/v1"):
            api.delete("CustomResourceDefinition", f"{name}.traefik.io", version="apiextensions.k8s.io/v1")
            api.wait(f"{name} is gone", lambda name=name: _no_crd(site, name))
    found = planned(site, site.rendered(CURRENT))
    assert not found.refusals, told(found)
    told_of = {(one.kind, one.weight): one.what for one in found.findings}
    assert told_of["crd", "danger"] == (
        "The routes of the gateway (IngressRoute, Middleware) move from the group traefik.containo.us to traefik.io."
    )
    assert told_of["crd", "notice"] == "2 CustomResourceDefinitions are not in the cluster yet."
    assert "of kinds that this deployment brings" in told_of["untried", "notice"]
    added = {str(one.id) for one in found.changes if one.part == "crd" and one.action == "add"}
    assert added == {
        "CustomResourceDefinition ingressroutes.traefik.io",
        "CustomResourceDefinition middlewares.traefik.io",
    }
    versions = {one.name: (one.action, one.old_version, one.version) for one in found.releases}
    assert versions == {
        "jupyterhub": ("upgrade", "3.3.8", "4.4.0"),
        "dask-gateway": ("upgrade", "2022.6.1", "2026.3.0"),
    }
    install(site, site.rendered(CURRENT))
    after = planned(site, site.rendered(CURRENT))
    assert after.empty, told(after)
    back = planned(site, site.rendered(OLD))
    assert [one.what for one in back.dangers if one.kind == "downgrade"] == [
        "jupyterhub goes back from jupyterhub 4.4.0 to 3.3.8.",
        "dask-gateway goes back from dask-gateway 2026.3.0 to 2022.6.1.",
    ]


def _no_crd(site: SiteOnCluster, name: str) -> bool:
    assert site.local is not None
    api = site.local.api
    return (
        api.get("CustomResourceDefinition", f"{name}.traefik.io", version="apiextensions.k8s.io/v1") is None
    )


@HELM_4
def test_what_the_server_would_refuse(site: SiteOnCluster) -> None:
    install(site, site.rendered())
    assert site.local is not None
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few"},
        "spec": {"hard": {"count/networkpolicies.networking.k8s.io": "0"}},
    }
    site.local.api.create(quota, site.namespace)
    site.local.api.wait(
        "the quota counts",
        lambda: site.local.api.get("ResourceQuota", "few", site.namespace).get("status", {}).get("hard"),
    )
    smaller = {"storage": "500Mi", "storageClassName": "homes"}
    want(site, hub={"db": {"pvc": smaller}})
    site.objects = (POLICY,)
    found = planned(site, site.rendered())
    told_of = {str(one.objects[0]): one for one in found.refusals}
    assert set(told_of) == {"PersistentVolumeClaim hub-db-dir", "NetworkPolicy ours"}
    assert "exceeded quota: few" in told_of["NetworkPolicy ours"].what
    assert "field can not be less than" in told_of["PersistentVolumeClaim hub-db-dir"].what
    assert [one.what for one in found.dangers] == ["The PVC hub-db-dir would shrink from 1Gi to 500Mi."]


@HELM_4
def test_who_may_not_see_everything_is_told_so(site: SiteOnCluster) -> None:
    install(site, site.rendered())
    assert site.local is not None
    rules = [
        {
            "apiGroups": ["*"],
            "resources": ["*"],
            "verbs": ["get", "list", "create", "patch", "update", "delete"],
        }
    ]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "planner"},
        "rules": rules,
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "planner"},
        "subjects": [{"kind": "User", "name": "eve", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "Role", "name": "planner", "apiGroup": "rbac.authorization.k8s.io"},
    }
    site.local.apply([role, binding], site.namespace)
    found = planned(site, site.rendered(), site.local.kubeconfig_for("eve"))
    (finding,) = found.refusals
    assert finding.kind == "refused"
    # CRDs whose kinds are served are an administrator's: a deployment leaves them.
    assert finding.what.startswith("You may not read ClusterRole, ClusterRoleBinding: ")
    assert not found.changes

    nobody = site.local.kubeconfig_for("mallory")
    with pytest.raises((ClusterProblem, HelmProblem)) as refused:
        planned(site, site.rendered(), nobody)
    assert "forbidden" in str(refused.value) or "may not" in str(refused.value)


@HELM_4
def test_a_release_that_was_interrupted(site: SiteOnCluster) -> None:
    install(site, site.rendered())
    helm, where = site.helm(), site.namespace
    record = helm.status("jupyterhub", where)
    assert record is not None and site.local is not None
    name = f"sh.helm.release.v1.jupyterhub.v{record.revision}"
    secret = site.local.api.get("Secret", name, where)
    assert secret is not None
    stored = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))))
    stored["info"]["status"] = "pending-upgrade"
    coded = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(stored).encode()))).decode()
    patch = {"data": {"release": coded}, "metadata": {"labels": {"status": "pending-upgrade"}}}
    site.cluster().patch("v1", "Secret", name, patch, where)
    found = planned(site, site.rendered())
    assert not found.empty and not found.changes
    assert found.release("jupyterhub").action == "finish" and found.release("dask-gateway").action == "same"
    assert [(one.kind, one.weight) for one in found.findings] == [("pending", "danger")]


@HELM_4
def test_a_namespace_that_is_not_there_yet(site: SiteOnCluster, cluster: LocalCluster) -> None:
    site.namespace = f"{site.namespace}-new"
    found = planned(site, site.rendered())
    assert not found.refusals, told(found)
    assert str(found.changes[0].id) == f"Namespace {site.namespace}" and found.changes[0].action == "add"
    assert cluster.api.get("Namespace", site.namespace) is None


@HELM_4
def test_after_a_deploy_nothing_would_change_and_what_goes_is_said(
    site: SiteOnCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`plan` and `deploy` agree: what one calls nothing the other does not do."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    site.objects = (POLICY,)
    deploy(site.rendered(), site.work())
    found = planned(site, site.rendered())
    assert found.empty and not found.findings and not found.drift, told(found)
    assert not deploy(site.rendered(), site.work()).changed

    site.objects = ()
    only_hub = site.rendered((CURRENT[0],))
    found = planned(site, only_hub)
    assert found.release("dask-gateway").action == "remove"
    assert actions(found)["NetworkPolicy ours"] == "remove"
    assert {change.action for change in found.changes} == {"remove"}
    assert deploy(only_hub, site.work()).changed
    found = planned(site, only_hub)
    assert found.empty, told(found)
