"""Whose the namespace and its objects are, as `kubernetes.ownership` judges it."""

from __future__ import annotations

from collections.abc import Iterable

from tidehub import program
from tidehub.errors import TidehubError
from tidehub.helm import records
from tidehub.helm.engine import PENDING
from tidehub.kubernetes.cluster.port import ClusterProblem
from tidehub.kubernetes.deploying.record import Record, read_record
from tidehub.kubernetes.objects import Object, ObjectId, identify, key_of, read_manifest
from tidehub.kubernetes.ownership import (
    Found,
    Place,
    Verdict,
    object_verdict,
    objections,
    other_verdicts,
    release_verdict,
)
from tidehub.kubernetes.preflight.model import Context, Finding


def releases(context: Context) -> list[Finding]:
    """Helm releases in the namespace that are not this platform's, or are half-way."""
    place, ours = place_of(context), _our_releases(context)
    found = [
        Finding(
            "pending-release",
            "warning",
            f"the release {name} is {one.status}: an operation was begun and did not finish",
            f"if somebody is working on it, wait; else `{program.command('deploy')}` continues from there",
        )
        for name, one in place.releases.items()
        if one.status in PENDING or one.status == "uninstalling"
    ]
    found += refused("other-release", other_verdicts(place, ours).values())
    found += refused("owner", (release_verdict(name, chart, place) for name, chart in ours.items()))
    return found or [Finding("releases", "ok", "no other release conflicts with this one")]


def owner(context: Context) -> list[Finding]:
    """Objects that are there already and belong to somebody else: Helm refuses to take them."""
    place, there = place_of(context), existing(context)
    judged = [
        object_verdict(id, there.get(id), place, release=None if name == "tidehub" else name)
        for name, obj in context.objects.everything()
        if (id := identify(obj, context.namespace)).kind != "CustomResourceDefinition"
    ]
    return refused("owner", judged) or [
        Finding("owner", "ok", "no object of the platform belongs to somebody else")
    ]


def refused(item: str, verdicts: Iterable[Verdict]) -> list[Finding]:
    """What stands against a deployment, as it says it itself."""
    return [
        Finding(item, "problem", one.what, one.fix, tuple(str(id) for id in one.ids))
        for one in objections(verdicts)
    ]


def place_of(context: Context) -> Place:
    """What the judgement goes by, read from the cluster once for all items."""
    return context.there.once("place", lambda: _read_place(context))


def _read_place(context: Context) -> Place:
    namespace = context.namespace
    record = read_record(context.there.cluster, namespace) or Record()
    found: dict[str, Found] = {}
    manifests = {}
    secrets = context.there.all("v1", "Secret", namespace)
    for name, secret in records.newest_of_each(secrets).items():
        try:
            one, whole = records.stored(secret), records.decoded(secret)
        except TidehubError:
            # A record that cannot be read is Helm's to complain about.
            continue
        if one.status != "uninstalled":
            found[name] = Found(one.chart, one.chart_version, one.status)
            objects = read_manifest(str(whole.get("manifest") or ""))
            manifests[name] = frozenset(key_of(identify(obj, namespace)) for obj in objects)
    return Place(
        namespace,
        found,
        frozenset(one.name for one in record.releases),
        frozenset(record.kept),
        context.adopt,
        manifests,
        lambda where: _is_gone(context, where),
    )


def existing(context: Context) -> dict[ObjectId, Object]:
    """The objects to be deployed that are there already, by id. What may not be read is left out."""
    wanted = {identify(obj, context.namespace) for _, obj in context.objects.everything()}
    look = context.there
    found: dict[ObjectId, Object] = {}
    for version, kind, where in sorted({(one.api_version, one.kind, one.namespace or "") for one in wanted}):
        try:
            live = look.all(version, kind, where or None)
        except ClusterProblem as problem:
            if problem.reason != "forbidden":
                raise
            continue
        for obj in live:
            identity = identify(obj, where)
            if identity in wanted:
                found[identity] = obj
    return found


def _our_releases(context: Context) -> dict[str, str]:
    """Chart by name of our releases."""
    if context.rendered is not None:
        return {one.release.name: one.release.chart for one in context.rendered.releases}
    if context.site.kubernetes is not None and context.site.kubernetes.model == "daskhub":
        return {"daskhub": "daskhub"}
    return {"jupyterhub": "jupyterhub", "dask-gateway": "dask-gateway"}


def _is_gone(context: Context, namespace: str) -> bool:
    try:
        found = context.there.one("v1", "Namespace", namespace)
    except ClusterProblem:
        return False
    return found is None or bool(found["metadata"].get("deletionTimestamp"))
