"""A site of stand-in charts on a real API server: installed, left alone, changed, upgraded, brought back, removed."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from deployed_site import CURRENT, DASKHUB, OLD, SiteOnCluster, home, put_database, schema_on_volume
from local_cluster import LocalCluster
from standin_charts import StandinCharts

from tidehub.helm.problems import HelmProblem
from tidehub.kubernetes.deploying.deploy import deploy
from tidehub.kubernetes.deploying.rollback import rollback
from tidehub.kubernetes.deploying.steps.removing import with_manifest
from tidehub.kubernetes.deploying.stored import read_release
from tidehub.kubernetes.deploying.uninstall import Also, uninstall
from tidehub.kubernetes.deploying.upgrade import upgrade
from tidehub.kubernetes.deploying.words import Refused

POLICY: dict[str, Any] = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "tidehub-test"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
}


ADMIN = "kubernetes-admin"
CRDS = "apiextensions.k8s.io/v1"


def without_crds(cluster: LocalCluster, group: str) -> None:
    """As in a cluster that never had the charts with this group."""
    for one in cluster.api.list("CustomResourceDefinition", version=CRDS):
        if one["spec"]["group"] == group:
            cluster.api.delete("CustomResourceDefinition", one["metadata"]["name"], version=CRDS)
    cluster.api.wait(
        f"{group} is gone",
        lambda: all(
            one["spec"]["group"] != group
            for one in cluster.api.list("CustomResourceDefinition", version=CRDS)
        ),
    )


def volume_of(site: SiteOnCluster, pvc: str) -> str | None:
    found = site.cluster().get("v1", "PersistentVolumeClaim", pvc, site.namespace)
    return found and (found.get("spec") or {}).get("volumeName")


@pytest.fixture
def site(
    cluster: LocalCluster,
    namespace: str,
    standin_charts: StandinCharts,
    helm_program: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> SiteOnCluster:
    if not isinstance(cluster, LocalCluster):
        pytest.skip("storage and pods of a given cluster are its own")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "data"))
    cluster.storage_class("homes")
    return SiteOnCluster.on(cluster, namespace, standin_charts, helm_program)


def test_a_site_is_installed_and_a_second_deploy_writes_nothing(site: SiteOnCluster) -> None:
    site.objects = (POLICY,)
    done = deploy(site.rendered(), site.work())
    assert done.changed and done.revision == 1
    assert site.revisions() == {"jupyterhub": 1, "dask-gateway": 1}
    record = site.record()
    assert record.deployed is not None and record.unfinished is None
    assert record.deployed.charts == dict(CURRENT)
    assert site.cluster().get("networking.k8s.io/v1", "NetworkPolicy", "tidehub-test", site.namespace)

    assert site.local is not None
    rendered, work = site.rendered(), site.work()
    since = time.time()
    again = deploy(rendered, work)
    assert not again.changed and again.revision == 1
    assert [one for one in site.local.writes(since) if site.namespace in str(one.get("requestURI"))] == []
    # A few trips to the server, not one for each object.
    assert len([one for one in site.local.audit_events(since) if one["user"]["username"] == ADMIN]) < 50
    assert site.revisions() == {"jupyterhub": 1, "dask-gateway": 1}


def test_a_change_is_one_more_revision_and_can_be_taken_back(site: SiteOnCluster) -> None:
    deploy(site.rendered(), site.work())
    site.values["jupyterhub"] = {
        "hub": {"db": {"pvc": {"storageClassName": "homes"}}, "config": {"A": {"b": 1}}}
    }
    site.objects = (POLICY,)
    changed = deploy(site.rendered(), site.work())
    assert changed.revision == 2
    # Only what changed got a new revision.
    assert site.revisions() == {"jupyterhub": 2, "dask-gateway": 1}

    back = rollback(site.work("rollback"))
    assert back.revision == 3
    assert site.revisions() == {"jupyterhub": 3, "dask-gateway": 1}
    assert site.helm().values("jupyterhub", site.namespace)["hub"].get("config") is None
    assert site.cluster().get("networking.k8s.io/v1", "NetworkPolicy", "tidehub-test", site.namespace) is None
    # Going back again goes to the state before, which is the changed one.
    rollback(site.work("rollback"))
    assert site.helm().values("jupyterhub", site.namespace)["hub"]["config"] == {"A": {"b": 1}}
    assert site.cluster().get("networking.k8s.io/v1", "NetworkPolicy", "tidehub-test", site.namespace)


def test_a_secret_that_was_rotated_is_a_change(site: SiteOnCluster) -> None:
    rendered = site.rendered()
    deploy(rendered, site.work())
    from tidehub.secrets.secret import Secret

    release = replace(rendered.releases[0].release, secrets={"proxy": {"secretToken": Secret("b" * 64)}})
    rotated = replace(
        rendered, releases=(replace(rendered.releases[0], release=release), *rendered.releases[1:])
    )
    assert deploy(rotated, site.work()).changed
    assert site.revisions() == {"jupyterhub": 2, "dask-gateway": 1}
    assert not deploy(rotated, site.work()).changed


def test_an_upgrade_is_not_done_by_the_way(site: SiteOnCluster) -> None:
    deploy(site.rendered(OLD), site.work())
    with pytest.raises(
        Refused, match=r"this is an upgrade: JupyterHub 5\.5\.0 brings the database"
    ) as refused:
        deploy(site.rendered(CURRENT), site.work())
    assert "tidehub upgrade" in str(refused.value)
    assert site.revisions() == {"jupyterhub": 1, "dask-gateway": 1}


def test_an_upgrade_brings_the_new_crds_and_a_copy_and_can_be_taken_back(site: SiteOnCluster) -> None:
    assert site.local is not None
    without_crds(site.local, "traefik.io")
    put_database(site.local, "0eee8c825d24")
    site.values["jupyterhub"] = {"prePuller": {"hook": {"enabled": False}, "continuous": {"enabled": True}}}
    deploy(site.rendered(OLD), site.work())
    done = upgrade(site.rendered(CURRENT), site.work("upgrade"))
    assert done.revision == 2
    crds = {one["metadata"]["name"] for one in site.local.api.list("CustomResourceDefinition", version=CRDS)}
    assert {"ingressroutes.traefik.io", "ingressroutes.traefik.containo.us"} <= crds
    assert "JupyterHub 5.5.0 brings the database of 4.1.6 from the schema 0eee8c825d24" in site.listener.text
    assert any("traefik.containo.us stay" in note for note in done.notes)
    saved = Path(site.record().revisions[-1].saved)
    assert saved.stat().st_mode & 0o777 == 0o600 and saved.parent.stat().st_mode & 0o777 == 0o700
    assert not upgrade(site.rendered(CURRENT), site.work("upgrade")).changed

    put_database(site.local, "4621fec11365")  # as the newer hub leaves it
    with pytest.raises(Refused, match="cannot read a database with the schema 4621fec11365") as refused:
        rollback(site.work("rollback"))
    assert str(saved) in str(refused.value)
    rollback(site.work("rollback"), database=saved)
    assert schema_on_volume(site.local) == "0eee8c825d24"
    charts = {one.name: one.chart_version for one in site.helm().list(site.namespace)}
    assert charts == {"jupyterhub": "3.3.8", "dask-gateway": "2022.6.1"}
    # The newer chart's ServiceAccount went; a merge alone leaves its name in the template, and no pod is made.
    assert site.cluster().get("v1", "ServiceAccount", "continuous-image-puller", site.namespace) is None
    assert "the ServiceAccount continuous-image-puller of another chart was taken out" in site.listener.text
    puller = partial(
        site.local.api.get, "DaemonSet", "continuous-image-puller", site.namespace, version="apps/v1"
    )

    def pulls() -> bool:
        found = puller() or {}
        account = found["spec"]["template"]["spec"].get("serviceAccountName")
        status = found.get("status") or {}
        return (
            account is None
            and status.get("numberReady", 0) > 0
            and status.get("updatedNumberScheduled", 0) > 0
        )

    site.local.api.wait("the image puller has pods again", pulls)
    assert site.record().deployed is not None and site.record().deployed.charts == dict(OLD)  # type: ignore[union-attr]


def test_uninstall_keeps_homes_database_and_keys_and_a_deployment_finds_them(site: SiteOnCluster) -> None:
    assert site.local is not None
    deploy(site.rendered(), site.work())
    cluster = site.cluster()
    cluster.create(home("ana"), site.namespace)
    volume = site.local.api.wait("it is bound", lambda: volume_of(site, "hub-db-dir"))
    keys = cluster.get("v1", "Secret", "hub", site.namespace)
    assert keys is not None

    gone = uninstall(site.work("uninstall"))
    assert gone.left.homes == ("claim-ana",) and gone.left.database == ("hub-db-dir",)
    assert gone.left.secrets == ("hub",)
    assert site.revisions() == {}
    assert cluster.get("apps/v1", "Deployment", "hub", site.namespace) is None
    assert cluster.get("apiextensions.k8s.io/v1", "CustomResourceDefinition", "daskclusters.gateway.dask.org")

    deploy(site.rendered(), site.work())
    assert volume_of(site, "hub-db-dir") == volume
    found = cluster.get("v1", "Secret", "hub", site.namespace)
    crypt = "hub.config.CryptKeeper.keys"
    assert found is not None and found["data"][crypt] == keys["data"][crypt]


def test_uninstall_takes_what_is_named(site: SiteOnCluster) -> None:
    site.objects = (POLICY,)
    deploy(site.rendered(), site.work())
    site.cluster().create(home("ana"), site.namespace)
    with pytest.raises(Refused, match="holds 2 PVCs"):
        uninstall(site.work("uninstall"), Also(namespace=True))
    assert site.revisions() == {"jupyterhub": 1, "dask-gateway": 1}
    uninstall(site.work("uninstall"), Also(homes=True, database=True, namespace=True))
    assert site.cluster().get("v1", "Namespace", site.namespace) is None


def test_a_release_from_before_the_cluster_lost_apis_is_upgraded(site: SiteOnCluster) -> None:
    deploy(site.rendered(), site.work())
    old = """---
apiVersion: policy/v1beta1
kind: PodDisruptionBudget
metadata:
  name: hub-of-old
spec:
  minAvailable: 1
---
apiVersion: policy/v1beta1
kind: PodSecurityPolicy
metadata:
  name: gone
"""
    live = read_release(site.cluster(), site.namespace, "jupyterhub")
    assert live is not None
    site.cluster().replace(with_manifest(live.secret, live.manifest.rstrip() + "\n" + old), site.namespace)
    site.values["jupyterhub"] = {
        "hub": {"db": {"pvc": {"storageClassName": "homes"}}, "config": {"A": {"b": 1}}}
    }
    with pytest.raises(HelmProblem):
        site.helm().upgrade_install(
            site.charts / "jupyterhub-4.4.0.tgz",
            {},
            release="jupyterhub",
            namespace=site.namespace,
            timeout=60,
        )
    assert deploy(site.rendered(), site.work()).changed
    assert "PodSecurityPolicy gone of policy/v1beta1 is not served any more" in site.listener.text
    assert "hub-of-old" not in site.helm().manifest("jupyterhub", site.namespace)


def test_another_model_finds_what_the_first_one_left(site: SiteOnCluster) -> None:
    assert site.local is not None
    deploy(site.rendered(OLD), site.work())
    volume = site.local.api.wait("it is bound", lambda: volume_of(site, "hub-db-dir"))
    with pytest.raises(Refused, match=r"the release jupyterhub .* is in the namespace") as refused:
        deploy(site.rendered(DASKHUB, "daskhub"), site.work())
    assert "tidehub uninstall" in str(refused.value)
    uninstall(site.work("uninstall"))
    deploy(site.rendered(DASKHUB, "daskhub"), site.work())
    assert volume_of(site, "hub-db-dir") == volume
    pvc = site.cluster().get("v1", "PersistentVolumeClaim", "hub-db-dir", site.namespace)
    assert pvc is not None and pvc["metadata"]["annotations"]["meta.helm.sh/release-name"] == "daskhub"
