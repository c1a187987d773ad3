"""The owner of an object by Helm's records, and how a release takes it over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tidehub.kubernetes.cluster.port import ClusterProblem
from tidehub.kubernetes.deploying.observed import meta_of
from tidehub.kubernetes.deploying.running import Work
from tidehub.kubernetes.deploying.stored import live_release
from tidehub.kubernetes.deploying.words import Refused, counted, listed
from tidehub.kubernetes.objects import Object, ObjectId, identify, read_manifest

HELM_LABEL = {"app.kubernetes.io/managed-by": "Helm"}
RELEASE_NAME, RELEASE_NAMESPACE = "meta.helm.sh/release-name", "meta.helm.sh/release-namespace"


@dataclass(frozen=True)
class Owner:
    """A release that an object says it is of."""

    release: str
    namespace: str

    def __str__(self) -> str:
        return f"the release {self.release} in {self.namespace}"


@dataclass(frozen=True)
class Foreign:
    """An object that exists already and does not belong to the release."""

    id: ObjectId
    owner: Owner | None
    may: bool
    """Whether it may be taken over: it was named, or its owner no longer exists."""


def owner_of(live: Object) -> Owner | None:
    """By the label and annotations that Helm asks for (helm.sh/helm pkg/action/validate.go)."""
    annotations: Mapping[str, str] = meta_of(live).get("annotations") or {}
    labels: Mapping[str, str] = meta_of(live).get("labels") or {}
    if labels.get("app.kubernetes.io/managed-by") != "Helm" or RELEASE_NAME not in annotations:
        return None
    return Owner(annotations[RELEASE_NAME], annotations.get(RELEASE_NAMESPACE, ""))


def foreign_objects(work: Work, release: str, objects: Iterable[Object]) -> list[Foreign]:
    """Those of a release's objects that Helm would refuse to import. Only what is new to the release is asked for."""
    live = live_release(work, release)
    known = {identify(one, work.namespace) for one in read_manifest(live.manifest)} if live else set()
    # The version may differ from what Helm wrote down, and the object be the same.
    known_names = {(id.group, id.kind, id.namespace, id.name) for id in known}
    ids = [
        id
        for id in (identify(one, work.namespace) for one in objects)
        if (id.group, id.kind, id.namespace, id.name) not in known_names
    ]
    ours = Owner(release, work.namespace)
    found: list[Foreign] = []
    with ThreadPoolExecutor(max_workers=8) as pool:
        for id, one in zip(ids, pool.map(lambda id: _get(work, id), ids), strict=True):
            if one is not None and (owner := owner_of(one)) != ours:
                found.append(Foreign(id, owner, _may(work, id, owner)))
    return found


def refuse_foreign(work: Work, release: str, found: Iterable[Foreign]) -> None:
    """Raises `Refused` for what may not be taken over."""
    left = [one for one in found if not one.may]
    if not left:
        return
    first = left[0]
    owner_words = (
        str(first.owner) if first.owner else "no release: somebody created it by hand or with another tool"
    )
    names = " ".join(f"--adopt {one.id.kind}/{one.id.name}" for one in left[:4])
    elsewhere = first.owner is not None and first.owner.namespace != work.namespace
    more = (
        f" (and {counted(len(left) - 1, 'other')}: {listed(str(one.id) for one in left[1:])})"
        if left[1:]
        else ""
    )
    raise Refused(
        f"{first.id} already exists and belongs to {owner_words}{more}",
        expected=f"no objects of these names, or objects of the release {release}",
        fix=(
            "the chart names what counts for the whole cluster after the release, so there can be one such release "
            "in a cluster: uninstall the other one, or use another cluster"
            if elsewhere
            else f"remove what nobody needs, or take it over: {names}"
        ),
    )


def take_over(work: Work, release: str, found: Iterable[Foreign]) -> None:
    """Makes them the release's, so that Helm imports them."""
    for one in found:
        work.cluster.patch(
            one.id.api_version, one.id.kind, one.id.name, ownership(release, work.namespace), one.id.namespace
        )


def ownership(release: str, namespace: str) -> Object:
    """The patch with the labels and annotations by which Helm knows its objects."""
    return {
        "metadata": {
            "labels": dict(HELM_LABEL),
            "annotations": {RELEASE_NAME: release, RELEASE_NAMESPACE: namespace},
        }
    }


def _get(work: Work, id: ObjectId) -> Object | None:
    try:
        return work.cluster.get(id.api_version, id.kind, id.name, id.namespace)
    except ClusterProblem as problem:
        # What may not be read here may still be there: Helm says so then.
        if problem.reason != "forbidden":
            raise
        return None


def _may(work: Work, id: ObjectId, owner: Owner | None) -> bool:
    if work.options.adopts(id.kind, id.name):
        return True
    if owner is None:
        return False
    if owner.namespace == work.namespace:
        # Left by an uninstalled release of ours, on purpose.
        return f"{id.kind}/{id.name}" in work.record.kept and live_release(work, owner.release) is None
    return _is_gone(work, owner.namespace)


def _is_gone(work: Work, namespace: str) -> bool:
    """Whether a namespace is gone, or about to be: its releases went with it, cluster-wide objects did not."""
    key = f"namespace {namespace} is gone"
    if key not in work.facts:
        try:
            found = work.cluster.get("v1", "Namespace", namespace)
            work.facts[key] = found is None or bool(meta_of(found).get("deletionTimestamp"))
        except ClusterProblem:
            work.facts[key] = False
    return bool(work.facts[key])
