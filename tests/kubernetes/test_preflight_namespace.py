"""Preflight against a real API server: the namespace, what is in it, and CRDs. Each test makes one defect."""

from __future__ import annotations

import copy
from typing import Any

from preflight_fixtures import provider, ready, ready_cluster, registry  # noqa: F401
from preflight_site import SIZES, ReadySite, crd, made, owned, release_record, unique

from tidehub.kubernetes.deploying.record import Record, ReleaseState, config_map

LATER = 3600.0
"""Seconds: what was begun now has lasted by then."""


def test_a_namespace_that_is_being_deleted(ready: ReadySite) -> None:  # noqa: F811
    keeper = made("v1", "ConfigMap", "keeper", meta={"finalizers": ["example.org/keep"]})
    ready.create(keeper)
    ready.api.delete("Namespace", ready.namespace)
    ready.api.wait(
        "the namespace says what keeps it",
        lambda: "example.org/keep" in str(ready.api.get("Namespace", ready.namespace)),
    )
    try:
        found = ready.troubles()["namespace"]
    finally:
        ready.clean()
    assert found.state == "problem"
    assert "is being deleted" in found.what
    assert "example.org/keep in 1 resource instances" in "".join(found.evidence)


def test_a_release_of_the_other_model(ready: ReadySite) -> None:  # noqa: F811
    ready.create(release_record("daskhub", "daskhub", "2024.1.1", "deployed", ready.namespace))
    ready.only("other-release", "problem", "the release daskhub (daskhub 2024.1.1)", "the same objects")


def test_another_release_of_the_same_chart(ready: ReadySite) -> None:  # noqa: F811
    ready.create(release_record("oldhub", "jupyterhub", "3.3.8", "deployed", ready.namespace))
    ready.only("other-release", "problem", "oldhub", "jupyterhub 3.3.8")


def test_a_release_of_our_name_and_another_chart(ready: ReadySite) -> None:  # noqa: F811
    ready.create(release_record("jupyterhub", "wordpress", "1.0.0", "deployed", ready.namespace))
    ready.only("owner", "problem", "is of the chart wordpress, not of jupyterhub")


def test_a_release_half_way(ready: ReadySite) -> None:  # noqa: F811
    ready.create(recorded(ready.namespace))
    ready.create(release_record("jupyterhub", "jupyterhub", "4.4.0", "pending-upgrade", ready.namespace))
    ready.only("pending-release", "warning", "pending-upgrade", "continues from there")


def test_what_was_uninstalled_does_not_matter(ready: ReadySite) -> None:  # noqa: F811
    ready.create(release_record("daskhub", "daskhub", "2022.6.0", "uninstalled", ready.namespace))
    assert ready.troubles() == {}


def test_our_own_release_is_no_trouble(ready: ReadySite) -> None:  # noqa: F811
    ready.create(recorded(ready.namespace))
    ready.create(release_record("jupyterhub", "jupyterhub", "4.4.0", "deployed", ready.namespace))
    ready.create(*(owned(one, "jupyterhub", ready.namespace) for one in ready.objects))
    assert ready.troubles() == {}


def test_objects_of_somebody_else(ready: ReadySite) -> None:  # noqa: F811
    ready.create(owned(ready.object("Service"), "other", ready.namespace), ready.object("Secret"))
    found = [one for one in ready.findings() if one.state != "ok"]
    assert {(one.item, one.state) for one in found} == {("owner", "problem")}
    assert [one.what for one in found] == [
        "Secret hub exists already and belongs to no release: somebody created it by hand",
        f"Service proxy-public exists already and belongs to the release other in the namespace {ready.namespace}",
    ]
    assert "--adopt Secret/hub" in found[0].fix
    assert ready.troubles(adopt=frozenset(["Secret/hub", "Service/proxy-public"])) == {}


def test_a_deletion_that_does_not_end(ready: ReadySite) -> None:  # noqa: F811
    stuck = owned(copy.deepcopy(ready.object("PersistentVolumeClaim")), "jupyterhub", ready.namespace)
    stuck["metadata"]["finalizers"] = ["example.org/guard"]
    ready.create(stuck)
    ready.api.delete("PersistentVolumeClaim", "hub-db-dir", ready.namespace)
    assert ready.troubles() == {}
    ready.network.ahead = LATER
    found = ready.troubles()["finalizers"]
    assert found.state == "problem"
    assert found.what.startswith("PersistentVolumeClaim hub-db-dir is being deleted and does not go")
    assert "example.org/guard" in found.evidence[0]


def test_a_quota_too_small_for_the_platform(ready: ReadySite) -> None:  # noqa: F811
    _quota(ready, {"requests.memory": "100Mi", "requests.cpu": "50m"})
    ready.only("quota", "problem", "requests.memory: 256 MiB wanted, 100 MiB left", "requests.cpu: 0.1 cores")


def test_a_quota_that_leaves_room_for_no_server(ready: ReadySite) -> None:  # noqa: F811
    _quota(ready, {"requests.memory": "1Gi"})
    ready.only("quota-users", "problem", "no user's server", "requests.memory: 1 GiB wanted, 768 MiB left")


def test_a_quota_on_pvcs(ready: ReadySite) -> None:  # noqa: F811
    _quota(ready, {"persistentvolumeclaims": "0"})
    ready.only("quota", "problem", "persistentvolumeclaims: 1 wanted, 0 left")


def test_a_quota_that_demands_what_containers_do_not_state(ready: ReadySite) -> None:  # noqa: F811
    hub = ready.object("Deployment")["spec"]["template"]["spec"]["containers"][0]
    hub["resources"] = {"requests": dict(SIZES["requests"])}
    _quota(ready, {"limits.memory": "100Gi"})
    ready.only("quota-unstated", "problem", "demands limits.memory of every container", "Deployment hub")


def test_a_limit_range_below_what_is_wanted(ready: ReadySite) -> None:  # noqa: F811
    bounds = {"type": "Container", "max": {"memory": "1Gi"}}
    ready.create(made("v1", "LimitRange", "bounds", spec={"limits": [bounds]}))
    ready.only("limit-range", "problem", "a server of profile Main wants 2 GiB of memory; at most 1 GiB")


def test_a_limit_range_on_pvcs(ready: ReadySite) -> None:  # noqa: F811
    bounds = {"type": "PersistentVolumeClaim", "max": {"storage": "5Gi"}}
    ready.create(made("v1", "LimitRange", "bounds", spec={"limits": [bounds]}))
    ready.only("limit-range", "problem", "a user's home wants 10 GiB of storage; at most 5 GiB")


def test_a_pod_security_level_that_refuses_the_hub(ready: ReadySite) -> None:  # noqa: F811
    labels = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    ready.api.patch("Namespace", ready.namespace, labels)
    found = ready.only(
        "pod-security", "problem", "enforces the level restricted", "Deployment hub", "and 1 more"
    )
    assert "runAsNonRoot" in "".join(found.evidence)


def test_a_pod_security_level_that_lets_all_in(ready: ReadySite) -> None:  # noqa: F811
    labels = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}
    ready.api.patch("Namespace", ready.namespace, labels)
    assert ready.troubles() == {}


def test_a_crd_of_another_version_and_owner(ready: ReadySite) -> None:  # noqa: F811
    group = f"{unique('g')}.example.org"
    live = owned(crd(group, "v1alpha1"), "other", "elsewhere")
    ready.crds = [crd(group, "v1alpha1", "v1")]
    ready.create(live)
    name = live["metadata"]["name"]
    ready.only("crds", "problem", name, "the release other in the namespace elsewhere", f"--adopt {name}")
    told = ready.only("crd-version", "warning", "does not serve v1", adopt=frozenset([name]))
    assert "served there: v1alpha1" in told.evidence


def test_a_crd_of_somebody_else_that_serves_what_is_needed(ready: ReadySite) -> None:  # noqa: F811
    """k3s, RKE2: the cluster's own Traefik brought it, with other fields."""
    group = f"{unique('g')}.example.org"
    live = owned(crd(group, "v1"), "traefik-crd", "kube-system")
    live["spec"]["names"]["shortNames"] = ["mw"]
    ready.crds = [crd(group, "v1")]
    ready.crds[0]["spec"]["names"]["shortNames"] = ["own"]
    ready.create(live)
    assert ready.troubles() == {}
    (told,) = [one for one in ready.findings() if one.item == "crds"]
    assert "somebody else's, serve what is needed and stay as they are" in told.what


def test_a_crd_whose_stored_objects_the_chart_does_not_know(ready: ReadySite) -> None:  # noqa: F811
    group = f"{unique('g')}.example.org"
    ready.crds = [crd(group, "v2")]
    ready.create(crd(group, "v1"))
    name = f"daskclusters.{group}"
    ready.api.wait(
        "it is stored",
        lambda: "storedVersions" in str(_crd(ready, name)),
    )
    ready.only("crds", "problem", name, "stored as v1", "rewritten", adopt=frozenset([name]))


def test_a_crd_that_is_not_established(ready: ReadySite) -> None:  # noqa: F811
    group = f"{unique('g')}.example.org"
    second = crd(group, "v1", plural="otherclusters")
    ready.create(crd(group, "v1"), second)
    name = f"otherclusters.{group}"
    ready.api.wait("its names are refused", lambda: "already in use" in _text(ready, name))
    ready.crds = [second]
    ready.only("crds", "problem", name, "already in use", "another CRD has its names")


def test_a_crd_stuck_in_its_deletion(ready: ReadySite) -> None:  # noqa: F811
    group = f"{unique('g')}.example.org"
    wanted = crd(group, "v1")
    stuck = copy.deepcopy(wanted)
    stuck["metadata"]["finalizers"] = ["example.org/guard"]
    ready.create(stuck)
    ready.api.delete("CustomResourceDefinition", stuck["metadata"]["name"], version="apiextensions.k8s.io/v1")
    ready.crds = [wanted]
    ready.only("crds", "problem", f"daskclusters.{group}", "example.org/guard")


def test_crds_of_an_older_chart(ready: ReadySite) -> None:  # noqa: F811
    old = crd("traefik.containo.us", "v1alpha1", kind="Middleware", plural="middlewares")
    ready.crds = [crd("traefik.io", "v1alpha1", kind="Middleware", plural="middlewares")]
    ready.create(old)
    ready.only("crd-group", "warning", "traefik.containo.us", "this one uses traefik.io")


def recorded(namespace: str) -> dict[str, Any]:
    """tidehub's own record: it made the release."""
    return config_map(
        Record(releases=(ReleaseState("jupyterhub", "jupyterhub", "4.4.0", "", "", "", 1),)), namespace
    )


def _quota(ready: ReadySite, hard: dict[str, str]) -> None:  # noqa: F811
    ready.create(made("v1", "ResourceQuota", "small", spec={"hard": hard}))
    ready.api.wait(
        "the quota is counted",
        lambda: (
            (ready.api.get("ResourceQuota", "small", ready.namespace) or {}).get("status", {}).get("used")
        ),
    )


def _crd(ready: ReadySite, name: str) -> object:  # noqa: F811
    return ready.api.get("CustomResourceDefinition", name, version="apiextensions.k8s.io/v1")


def _text(ready: ReadySite, name: str) -> str:  # noqa: F811
    found = ready.api.get("CustomResourceDefinition", name, version="apiextensions.k8s.io/v1") or {}
    return " ".join(one["message"] for one in found.get("status", {}).get("conditions") or [])
