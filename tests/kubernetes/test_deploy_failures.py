"""What goes wrong while a site is deployed: said with its reason and one command, and the next deployment goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deployed_site import CURRENT, STORAGE, SiteOnCluster
from local_cluster import LocalCluster
from standin_charts import StandinCharts

from tidehub.kubernetes.cluster.port import ClusterProblem
from tidehub.kubernetes.deploying import lock, pods
from tidehub.kubernetes.deploying import uninstall as uninstalling
from tidehub.kubernetes.deploying.deploy import deploy
from tidehub.kubernetes.deploying.rollback import rollback
from tidehub.kubernetes.deploying.steps.namespace import NamespaceEnding
from tidehub.kubernetes.deploying.steps.removing import Stuck
from tidehub.kubernetes.deploying.uninstall import Also, uninstall
from tidehub.kubernetes.deploying.words import Failure, Refused

CRDS = "apiextensions.k8s.io/v1"
NO_HOOK = {"prePuller": {"hook": {"enabled": False}}}
pytestmark = pytest.mark.parametrize("helm_program", [4], indirect=True, ids=["helm4"])


@pytest.fixture
def site(
    cluster: LocalCluster,
    namespace: str,
    standin_charts: StandinCharts,
    helm_program: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[SiteOnCluster]:
    if not isinstance(cluster, LocalCluster):
        pytest.skip("a given cluster is not to be broken")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "data"))
    # A simulated kubelet tells of each failure once.
    monkeypatch.setattr(pods, "PULL_GRACE", 2.0)
    cluster.storage_class("homes")
    yield SiteOnCluster.on(cluster, namespace, standin_charts, helm_program)
    cluster.start_api()


def hub(**values: Any) -> dict[str, Any]:
    return {**NO_HOOK, "hub": {**STORAGE["hub"], **values}}


def failed(site: SiteOnCluster, **options: Any) -> Failure:
    began = time.monotonic()
    with pytest.raises(Failure) as caught:
        deploy(site.rendered(), site.work(**options))
    # Not by running into its time.
    assert time.monotonic() - began < site.options.timeout or options
    record = site.record()
    assert record.journal is not None and record.journal.outcome == "failed"
    return caught.value


def goes_on(site: SiteOnCluster) -> None:
    """After the remedy: the same command, to its end, and then at rest."""
    assert deploy(site.rendered(), site.work()).changed
    assert site.record().unfinished is None
    assert not deploy(site.rendered(), site.work()).changed


def test_an_image_that_cannot_be_pulled(site: SiteOnCluster) -> None:
    deploy(site.rendered(), site.work())
    site.values["jupyterhub"] = hub(image={"name": "missing.invalid/hub", "tag": "1"})
    error = failed(site)
    assert "the image 'missing.invalid/hub:1' of hub-" in str(error) and "cannot be pulled" in str(error)
    assert error.evidence
    assert error.command == "tidehub rollback"
    assert "failed: Pods of jupyterhub; not begun" in error.state
    rollback(site.work("rollback"))
    record = site.record()
    assert record.deployed is not None and record.deployed.revision == 2 and record.unfinished is None
    site.values.clear()
    assert not deploy(site.rendered(), site.work()).changed


def test_a_container_that_crashes_shows_its_last_lines(site: SiteOnCluster) -> None:
    assert site.local is not None
    site.local.write_pod_log("Can't locate revision identified by 'f460b0348206'")
    site.values["jupyterhub"] = hub(image={"name": "crash.invalid/hub", "tag": "1"})
    error = failed(site)
    assert "the container hub of hub-" in str(error) and "ends with exit code" in str(error)
    assert any("f460b0348206" in line for line in error.evidence)
    # Nothing was reached yet that one could go back to.
    assert error.command == "tidehub deploy"
    site.values.clear()
    goes_on(site)


def test_a_hook_that_cannot_pull_ends_helm_at_once(site: SiteOnCluster) -> None:
    site.values["jupyterhub"] = {
        **STORAGE,
        "singleuser": {"image": {"name": "missing.invalid/notebook", "tag": "1"}},
        "prePuller": {"hook": {"enabled": True, "image": {"name": "endless.invalid/awaiter", "tag": "1"}}},
    }
    error = failed(site)
    # A kubelet tells of the init container with the image; the simulated one only of the pod.
    assert "hook-image-puller-" in str(error) and "cannot be pulled" in str(error)
    assert "no such host: missing.invalid" in str(error) and "failed: Release jupyterhub" in error.state
    site.values.clear()
    goes_on(site)


def test_a_quota(site: SiteOnCluster) -> None:
    site.values["jupyterhub"] = NO_HOOK | STORAGE
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"pods": "0"}},
    }
    cluster = site.cluster()
    cluster.create(quota, site.namespace)
    assert site.local is not None
    site.local.api.wait(
        "the quota counts",
        lambda: (
            (site.local.api.get("ResourceQuota", "small", site.namespace) or {}).get("status") or {}
        ).get("used"),  # type: ignore[union-attr]
    )
    error = failed(site)
    assert "the namespace's ResourceQuota does not let" in str(error)
    assert any("exceeded quota: small" in line for line in error.evidence)
    cluster.delete("v1", "ResourceQuota", "small", site.namespace)
    goes_on(site)


def test_pod_security(site: SiteOnCluster) -> None:
    site.values["jupyterhub"] = NO_HOOK | STORAGE
    level = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    site.cluster().patch("v1", "Namespace", site.namespace, level)
    error = failed(site)
    assert "Pod Security level" in str(error) and any("violates PodSecurity" in one for one in error.evidence)


def test_a_pvc_that_gets_no_volume(site: SiteOnCluster) -> None:
    site.values["jupyterhub"] = hub(db={"pvc": {"storageClassName": "of-another-cloud"}})
    error = failed(site)
    assert "the PVC hub-db-dir gets no PersistentVolume" in str(error)
    assert any('"of-another-cloud" not found' in line for line in error.evidence)
    assert "kubectl get storageclass" in str(error)


def test_rights_that_are_too_few(site: SiteOnCluster, namespace: str) -> None:
    assert site.local is not None
    kubeconfig = site.local.kubeconfig_for(f"operator-{namespace}")
    groups = ["", "coordination.k8s.io", "batch", "rbac.authorization.k8s.io", "networking.k8s.io"]
    reads = ["get", "list", "watch"]
    rules = [
        {"apiGroups": groups, "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": ["apps"], "resources": ["*"], "verbs": reads},
    ]
    everywhere = [
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]},
        {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": reads},
    ]
    bind(site.local, f"operator-{namespace}", namespace, rules)
    bind(site.local, f"operator-{namespace}", "", everywhere)
    # The CRDs are the administrator's to bring.
    deploy(site.rendered(), site.work())
    uninstall(site.work("uninstall"))
    site.values["jupyterhub"] = NO_HOOK | STORAGE
    with pytest.raises(Failure) as caught:
        deploy(site.rendered(), site.work(kubeconfig=kubeconfig))
    said = str(caught.value)
    assert "the permission to patch deployments" in said
    assert "failed: Release jupyterhub" in caught.value.state
    assert "tidehub preflight" in said or "administrator" in said
    goes_on(site)


def bind(cluster: LocalCluster, user: str, namespace: str, rules: list[dict[str, Any]]) -> None:
    kind, where = ("Role", {"namespace": namespace}) if namespace else ("ClusterRole", {})
    rbac = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{rbac}/v1", "kind": kind, "metadata": {"name": user, **where}, "rules": rules}
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": f"{kind}Binding",
        "metadata": {"name": user, **where},
        "subjects": [{"kind": "User", "name": user, "apiGroup": rbac}],
        "roleRef": {"kind": kind, "name": user, "apiGroup": rbac},
    }
    cluster.apply([role, binding])


# -- the API server


@pytest.mark.parametrize("how", ["hangs", "vanishes"])
@pytest.mark.parametrize("step", ["release jupyterhub", "wait jupyterhub"])
def test_an_api_server_that_fails_half_way(site: SiteOnCluster, how: str, step: str) -> None:
    local = site.local
    assert local is not None
    breaks: Callable[[], None] = local.freeze if how == "hangs" else local.kill_api
    # Never ready, so that there is something to wait for however quick the pods are.
    site.values["jupyterhub"] = hub(image={"name": "unready.invalid/hub", "tag": "1"})
    rendered, work = site.rendered(), site.work(timeout=20)

    def watch(at: str, moment: str) -> None:
        if (at, moment) == (step, "begins"):
            breaks()

    began = time.monotonic()
    try:
        with pytest.raises(Failure) as caught:
            deploy(rendered, work, watch=watch)
        assert time.monotonic() - began < 100
    finally:
        local.thaw() if how == "hangs" else local.start_api()
    title = "Release jupyterhub" if step.startswith("release") else "Pods of jupyterhub"
    assert f"failed: {title}" in caught.value.state
    assert caught.value.unanswered and caught.value.command == "tidehub deploy"
    # The journal could not be told: it says that the step was begun, and the next deployment goes on from there.
    journal = site.record().journal
    assert journal is not None and journal.outcome == "" and journal.current is not None
    assert journal.current.step == step
    site.values.clear()
    goes_on(site)


# -- whose things are


def test_an_object_of_nobody_is_not_taken_over_unless_named(site: SiteOnCluster) -> None:
    cluster = site.cluster()
    cluster.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hub"}, "data": {"mine": "1"}},
        site.namespace,
    )
    with pytest.raises(Refused, match="ConfigMap hub exists already and belongs to no release") as refused:
        deploy(site.rendered(), site.work())
    assert "--adopt ConfigMap/hub" in str(refused.value)
    assert site.revisions() == {}
    deploy(site.rendered(), site.work(adopt=frozenset({"ConfigMap/hub"})))
    found = cluster.get("v1", "ConfigMap", "hub", site.namespace)
    assert found is not None and found["metadata"]["annotations"]["meta.helm.sh/release-name"] == "jupyterhub"


def test_a_release_of_somebody_else_is_not_taken_over_unless_named(site: SiteOnCluster) -> None:
    site.helm().upgrade_install(
        site.charts / "jupyterhub-4.4.0.tgz",
        NO_HOOK | STORAGE,
        release="jupyterhub",
        namespace=site.namespace,
        timeout=60,
    )
    with pytest.raises(Refused, match=r"the release jupyterhub \(jupyterhub 4.4.0\) is there already"):
        deploy(site.rendered(), site.work())
    with pytest.raises(Exception, match="tidehub did not deploy anything"):
        uninstall(site.work("uninstall"))
    assert site.revisions() == {"jupyterhub": 1}
    deploy(site.rendered(), site.work(adopt=frozenset({"jupyterhub"})))
    assert site.revisions() == {"jupyterhub": 2, "dask-gateway": 1}


def test_crds_of_somebody_else_are_not_changed_unless_named(site: SiteOnCluster) -> None:
    assert site.local is not None
    name = "middlewares.traefik.io"
    deploy(site.rendered(), site.work())  # the CRDs are there
    crd = site.cluster().get(CRDS, "CustomResourceDefinition", name)
    assert crd is not None
    uninstall(site.work("uninstall"))
    site.local.api.delete("CustomResourceDefinition", name, version=CRDS)
    site.local.api.wait(
        "it is gone", lambda: not site.local.api.get("CustomResourceDefinition", name, version=CRDS)
    )  # type: ignore[union-attr]
    theirs: dict[str, Any] = {
        "apiVersion": CRDS,
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/managed-by": "Helm"},
            "annotations": {
                "meta.helm.sh/release-name": "traefik-crd",
                "meta.helm.sh/release-namespace": "kube-system",
            },
        },
        "spec": {**crd["spec"], "names": {**crd["spec"]["names"], "shortNames": ["mw"]}},
    }
    site.local.api.create(theirs)
    try:
        # It serves what is wanted: others' definitions stay as they are.
        deploy(site.rendered(), site.work())
        left = site.cluster().get(CRDS, "CustomResourceDefinition", name)
        assert left is not None and left["spec"]["names"]["shortNames"] == ["mw"]
        uninstall(site.work("uninstall"), Also(crds=True))
        assert site.cluster().get(CRDS, "CustomResourceDefinition", name) is not None
    finally:
        site.local.api.delete("CustomResourceDefinition", name, version=CRDS)


# -- what does not go


def test_a_namespace_with_a_stuck_finalizer(site: SiteOnCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uninstalling, "GONE", 15.0)
    cluster = site.cluster()
    deploy(site.rendered(), site.work())
    held = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "held", "finalizers": ["example.org/never"]},
    }
    cluster.create(held, site.namespace)
    also = Also(homes=True, database=True, namespace=True)
    try:
        with pytest.raises(Stuck) as caught:
            uninstall(site.work("uninstall"), also)
        assert any("example.org/never" in line for line in caught.value.evidence)
        with pytest.raises(NamespaceEnding, match="is being deleted") as ending:
            deploy(site.rendered(), site.work())
        assert any("example.org/never" in line for line in ending.value.evidence)
    finally:
        cluster.patch("v1", "ConfigMap", "held", {"metadata": {"finalizers": None}}, site.namespace)
    monkeypatch.setattr(uninstalling, "GONE", 60.0)
    uninstall(site.work("uninstall"), also)
    assert cluster.get("v1", "Namespace", site.namespace) is None


def test_a_pvc_with_a_stuck_finalizer(site: SiteOnCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uninstalling, "GONE", 4.0)
    cluster = site.cluster()
    deploy(site.rendered(), site.work())
    never = {"metadata": {"finalizers": ["example.org/never"]}}
    cluster.patch("v1", "PersistentVolumeClaim", "hub-db-dir", never, site.namespace)
    try:
        with pytest.raises(Failure, match="do not go: hub-db-dir") as caught:
            uninstall(site.work("uninstall"), Also(database=True))
        assert any("example.org/never" in line for line in caught.value.evidence)
    finally:
        cluster.patch(
            "v1", "PersistentVolumeClaim", "hub-db-dir", {"metadata": {"finalizers": None}}, site.namespace
        )
    assert uninstall(site.work("uninstall"), Also(database=True)).left.database == ()


# -- two operators


def test_a_second_operator_is_told_who_works(site: SiteOnCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "RENEWAL", 1.0)
    cluster = site.cluster()
    other = site.work()
    from dataclasses import replace

    ana = replace(other.holder, user="ana@desk", machine="elsewhere")
    with lock.Lock(cluster, site.namespace, "upgrade", ana, renewal=1.0):
        with pytest.raises(lock.Locked, match=r"ana@desk.* is working on the namespace .*\(upgrade, since"):
            deploy(site.rendered(), site.work())
    assert site.revisions() == {}
    deploy(site.rendered(), site.work())
    assert site.record().deployed is not None and site.record().deployed.charts == dict(CURRENT)  # type: ignore[union-attr]


def test_nothing_answers_at_all(site: SiteOnCluster) -> None:
    assert site.local is not None
    rendered, work = site.rendered(), site.work()
    site.local.kill_api()
    try:
        with pytest.raises(ClusterProblem) as caught:
            deploy(rendered, work)
    finally:
        site.local.start_api()
    assert caught.value.reason == "unreachable"
