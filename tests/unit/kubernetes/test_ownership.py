"""Whose an object is, situation by situation. That every command goes by it: `tests/kubernetes/test_agreement.py`."""

from __future__ import annotations

from typing import Any

import pytest

from tidehub.kubernetes.objects import Object, identify, key_of
from tidehub.kubernetes.ownership import (
    Found,
    Place,
    crd_verdict,
    object_verdict,
    objections,
    other_verdicts,
    release_verdict,
)

HERE = "here"
HUB = {"jupyterhub": Found("jupyterhub", "4.4.0")}


def marked(release: str, namespace: str, kind: str = "ConfigMap", manager: str = "Helm") -> Object:
    annotations = {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": namespace}
    labels = {"app.kubernetes.io/managed-by": manager}
    return obj(kind, labels=labels, annotations=annotations)


def obj(kind: str = "ConfigMap", **meta: Any) -> Object:
    api = "rbac.authorization.k8s.io/v1" if kind == "ClusterRole" else "v1"
    return {"apiVersion": api, "kind": kind, "metadata": {"name": "x", **meta}}


KNOWN = {"jupyterhub": frozenset([key_of(identify(obj(), HERE))])}
KEPT = frozenset(["ConfigMap/x"])
ARGO = {"argocd.argoproj.io/tracking-id": "coast"}


@pytest.mark.parametrize(
    ("live", "place", "follows", "owner"),
    [
        (None, {}, "install", ""),
        (marked("jupyterhub", HERE), {}, "ours", ""),
        (obj(), {}, "refuse", ""),
        (obj(), {"manifests": KNOWN}, "ours", ""),
        (obj(), {"adopt": frozenset(["ConfigMap/x"])}, "take-over", ""),
        # The name alone means a release: upstream's Ingress has the same one.
        (obj(), {"adopt": frozenset(["x"])}, "refuse", ""),
        (obj(annotations=ARGO), {}, "refuse", "Argo CD: coast"),
        (obj(labels={"app.kubernetes.io/managed-by": "pulumi"}), {}, "refuse", "pulumi"),
        # Helm asks for its label, too.
        (marked("jupyterhub", HERE, manager=""), {}, "refuse", "the release jupyterhub in the namespace here"),
        (marked("old", HERE), {}, "refuse", "the release old in the namespace here"),
        (marked("old", HERE), {"kept": KEPT}, "take-over", "the release old in the namespace here"),
        (
            marked("old", HERE),
            {"kept": KEPT, "releases": {"old": Found("daskhub")}},
            "refuse",
            "the release old in the namespace here",
        ),
        (marked("g", "other", "ClusterRole"), {}, "refuse", "the release g in the namespace other"),
        (
            marked("g", "other", "ClusterRole"),
            {"is_gone": lambda namespace: namespace == "other"},
            "take-over",
            "the release g in the namespace other",
        ),
    ],
)  # fmt: skip
def test_objects_of_a_release(live: Object | None, place: Any, follows: str, owner: str) -> None:
    id = identify(live or obj(), HERE)
    found = object_verdict(id, live, Place(HERE, **place), release="jupyterhub")
    assert (found.follows, found.owner) == (follows, owner)


@pytest.mark.parametrize(
    ("live", "adopt", "follows"),
    [
        (None, (), "install"),
        (obj(labels={"app.kubernetes.io/managed-by": "tidehub"}), (), "ours"),
        (obj(), (), "refuse"),
        (obj(), ("ConfigMap/x",), "take-over"),
        (marked("jupyterhub", HERE), (), "refuse"),
        (obj("Namespace"), (), "ours"),
        (obj("Namespace", deletionTimestamp="2026-01-01T00:00:00Z"), ("Namespace/x",), "refuse"),
    ],
)
def test_objects_of_our_own(live: Object | None, adopt: tuple[str, ...], follows: str) -> None:
    id = identify(live or obj(), HERE)
    assert object_verdict(id, live, Place(HERE, adopt=frozenset(adopt))).follows == follows


def crd(
    *versions: str, group: str = "traefik.io", manager: str = "", served: bool = True, **meta: Any
) -> Object:
    names = {"plural": "middlewares", "kind": "Middleware"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"middlewares.{group}",
            "managedFields": [{"manager": manager}] if manager else [],
            **meta,
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": names,
            "versions": [{"name": one, "served": served} for one in versions],
        },
        "status": {"conditions": [{"type": "Established", "status": "True"}], "storedVersions": ["v1"]},
    }


def other(one: Object) -> Object:
    """With something that the chart's does not want otherwise than it is there."""
    return {
        **one,
        "spec": {**one["spec"], "versions": [{**v, "schema": {}} for v in one["spec"]["versions"]]},
    }


WANTED = crd("v1")
NAMED = frozenset([WANTED["metadata"]["name"]])
WANTED["spec"]["versions"][0]["schema"] = {"openAPIV3Schema": {"type": "object"}}
REFUSED_NAMES = {"conditions": [{"type": "NamesAccepted", "status": "False", "message": "taken"}]}
FLUX = {"kustomize.toolkit.fluxcd.io/name": "infra"}
IN_K3S = {"meta.helm.sh/release-name": "traefik-crd", "meta.helm.sh/release-namespace": "kube-system"}


@pytest.mark.parametrize(
    ("live", "place", "follows", "owner"),
    [
        (None, {}, "install", ""),
        (WANTED, {}, "leave", ""),
        (other(crd("v1", manager="tidehub")), {}, "ours", ""),
        (other(crd("v1", "v2", manager="k3s")), {}, "leave", "who made it with k3s"),
        (other(crd("v1", annotations=IN_K3S)), {}, "leave", "the release traefik-crd in the namespace kube-system"),
        (crd("v0", manager="kubectl"), {}, "refuse", "who made it with kubectl"),
        (crd("v1", served=False), {}, "refuse", "somebody who left no mark"),
        (crd("v0", annotations=FLUX), {}, "refuse", "Flux: infra"),
        (crd("v0", annotations={**IN_K3S, "meta.helm.sh/release-namespace": HERE}), {}, "ours", ""),
        (crd("v0", manager="helm"), {}, "refuse", "who made it with helm"),
        (other(crd("v1", manager="helm")), {"releases": {"g": Found("dask-gateway")}}, "ours", ""),
        (other(crd("v1", manager="k3s")), {"adopt": NAMED}, "take-over", "who made it with k3s"),
        ({**WANTED, "status": REFUSED_NAMES}, {}, "refuse", ""),
        (crd("v1", deletionTimestamp="2026-01-01T00:00:00Z"), {}, "refuse", ""),
    ],
)  # fmt: skip
def test_crds(live: Object | None, place: Any, follows: str, owner: str) -> None:
    found = crd_verdict(WANTED, live, Place(HERE, **place))
    assert (found.follows, found.owner) == (follows, owner), found


def test_a_crd_that_only_dask_gateway_can_have_brought_is_ours() -> None:
    wanted, live = (
        crd("v1", "v2", group="gateway.dask.org"),
        crd("v1", group="gateway.dask.org", manager="kubectl"),
    )
    assert crd_verdict(wanted, live, Place(HERE)).follows == "ours"


def test_stored_objects_are_not_left_without_their_version() -> None:
    found = crd_verdict(crd("v2"), crd("v1", manager="tidehub"), Place(HERE))
    assert found.refused and "stored as v1" in found.why


@pytest.mark.parametrize(
    ("releases", "made", "adopt", "follows"),
    [
        ({}, (), (), "install"),
        (HUB, ("jupyterhub",), (), "ours"),
        ({"jupyterhub": Found("jupyterhub", "4.4.0", "pending-upgrade")}, ("jupyterhub",), (), "repair"),
        (HUB, (), (), "refuse"),
        (HUB, (), ("jupyterhub",), "take-over"),
        ({"jupyterhub": Found("wordpress", "1.0")}, (), ("jupyterhub",), "refuse"),
    ],
)
def test_releases(releases: Any, made: Any, adopt: Any, follows: str) -> None:
    place = Place(HERE, releases, frozenset(made), adopt=frozenset(adopt))
    assert release_verdict("jupyterhub", "jupyterhub", place).follows == follows


@pytest.mark.parametrize(
    ("name", "chart", "made", "wanted", "follows"),
    [
        ("daskhub", "daskhub", (), ("jupyterhub",), "refuse"),
        ("daskhub", "daskhub", ("daskhub",), ("jupyterhub",), "refuse"),
        ("old", "jupyterhub", (), ("jupyterhub", "dask-gateway"), "refuse"),
        ("old", "jupyterhub", (), ("daskhub",), "refuse"),
        ("dask-gateway", "dask-gateway", (), ("daskhub",), "refuse"),
        ("dask-gateway", "dask-gateway", (), ("jupyterhub",), "leave"),
        ("dask-gateway", "dask-gateway", ("dask-gateway",), ("jupyterhub",), "ours"),
        ("dask-operator", "dask-kubernetes-operator", (), ("jupyterhub",), "leave"),
        ("grafana", "grafana", (), ("jupyterhub",), None),
    ],
)
def test_other_releases(name: str, chart: str, made: Any, wanted: Any, follows: str | None) -> None:
    place = Place(HERE, {name: Found(chart, "1")}, frozenset(made))
    found = other_verdicts(place, {one: one for one in wanted})
    assert (found[name].follows if name in found else None) == follows


def test_what_stands_against_it_is_told_together_and_named_to_be_pasted() -> None:
    ids = [identify({**obj(), "metadata": {"name": name}}, HERE) for name in "ab"]
    judged = [object_verdict(id, obj(), Place(HERE), release="jupyterhub") for id in ids]
    judged.append(release_verdict("jupyterhub", "jupyterhub", Place(HERE, HUB)))
    objects, release = objections(judged, "upgrade")
    assert (
        objects.what
        == "ConfigMap a, ConfigMap b exist already and belong to no release: somebody created them by hand"
    )
    assert objects.fix.endswith("take over with `tidehub upgrade --adopt ConfigMap/a --adopt ConfigMap/b`")
    assert (
        release.what
        == "the release jupyterhub (jupyterhub 4.4.0) is there already, and tidehub did not make it"
    )
    assert release.names == ("jupyterhub",)
