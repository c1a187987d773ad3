"""The owners of the namespace and its objects: releases of Helm, of this model or another, or nobody."""

from __future__ import annotations

from tidehub import program
from tidehub.errors import TidehubError
from tidehub.helm import records
from tidehub.helm.engine import PENDING
from tidehub.kubernetes.cluster.port import ClusterProblem
from tidehub.kubernetes.objects import Object, ObjectId, identify
from tidehub.kubernetes.preflight.model import Context, Finding

RELEASE, RELEASE_NAMESPACE = "meta.helm.sh/release-name", "meta.helm.sh/release-namespace"
MANAGED_BY = "app.kubernetes.io/managed-by"
_CHARTS = frozenset({"jupyterhub", "dask-gateway", "daskhub"})


def releases(context: Context) -> list[Finding]:
    """Helm releases in the namespace that are not this platform's, or are half-way."""
    found, ours = [], _our_releases(context)
    for one in _newest(context):
        if one.status == "uninstalled":
            continue
        if one.status in PENDING or one.status == "uninstalling":
            found.append(_half_way(one))
        if ours is not None and one.release not in ours and one.chart in _CHARTS:
            found.append(_other(one, context))
        elif ours is not None and one.release in ours and one.chart != ours[one.release]:
            found.append(_other_chart(one, ours[one.release]))
    return found or [Finding("releases", "ok", "no other release conflicts with this one")]


def owner(context: Context) -> list[Finding]:
    """Objects that are there already and belong to somebody else: Helm refuses to take them."""
    foreign = []
    mine = {identify(obj, context.namespace): name for name, obj in context.objects.everything()}
    for identity, live in existing(context).items():
        release = mine[identity]
        if identity.kind == "CustomResourceDefinition":
            continue
        said = owner_of(live)
        if release == "tidehub":
            if said.startswith("release "):
                foreign.append(f"{identity}: {said}")
        elif said != f"release {release} in namespace {context.namespace}":
            foreign.append(f"{identity}: {said or 'its owner is not known'}")
    if not foreign:
        return [Finding("owner", "ok", "no object of the platform belongs to somebody else")]
    first = foreign[0].split(":")[0]
    return [
        Finding(
            "owner",
            "problem",
            f"{first} already exists and is not this platform's"
            + (f", and {len(foreign) - 1} more" if len(foreign) > 1 else ""),
            "use another namespace, or remove these objects once you know that nobody needs them",
            tuple(foreign),
        )
    ]


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


def owner_of(obj: Object) -> str:
    """The owner that an object names: `release NAME in namespace WHERE`, a manager, or nothing."""
    meta = obj.get("metadata") or {}
    annotations, labels = meta.get("annotations") or {}, meta.get("labels") or {}
    if annotations.get(RELEASE):
        return f"release {annotations[RELEASE]} in namespace {annotations.get(RELEASE_NAMESPACE, '?')}"
    manager = labels.get(MANAGED_BY) or (labels.get("olm.managed") and "OLM")
    return f"managed by {manager}" if manager else ""


def _newest(context: Context) -> list[records.Stored]:
    secrets = [
        one for one in context.there.all("v1", "Secret", context.namespace) if one.get("type") == records.TYPE
    ]
    by_name: dict[str, list[Object]] = {}
    for secret in secrets:
        name = str((secret["metadata"].get("labels") or {}).get("name") or secret["metadata"]["name"])
        by_name.setdefault(name, []).append(secret)
    found = []
    for several in by_name.values():
        newest = records.newest(several)
        if newest is not None:
            try:
                found.append(records.stored(newest))
            except TidehubError:
                # A record that cannot be read is Helm's to complain about.
                continue
    return sorted(found, key=lambda one: one.release)


def _our_releases(context: Context) -> dict[str, str] | None:
    """Chart by name of our releases."""
    if context.rendered is not None:
        return {one.release.name: one.release.chart for one in context.rendered.releases}
    if context.site.kubernetes is None:
        return None
    if context.site.kubernetes.model == "daskhub":
        return {"daskhub": "daskhub"}
    return {"jupyterhub": "jupyterhub", "dask-gateway": "dask-gateway"}


def _half_way(one: records.Stored) -> Finding:
    return Finding(
        "pending-release",
        "warning",
        f"the release {one.release} is {one.status}: an operation was begun and did not finish",
        f"if somebody is working on it, wait; else `{program.command('deploy')}` continues from there",
        (f"revision {one.revision} of {one.chart} {one.chart_version}",),
    )


def _other(one: records.Stored, context: Context) -> Finding:
    model = "daskhub" if one.chart == "daskhub" else "split"
    wanted = context.site.kubernetes.model if context.site.kubernetes else "split"
    if model != wanted:
        what = f"the release {one.release} is the model {model}, and the site says {wanted}"
        fix = f"write kubernetes.model: {model}, or another namespace; docs: Move an existing DaskHub to tidehub"
        item = "other-model"
    else:
        what = f"another release of the chart {one.chart} is in the namespace: {one.release}"
        fix = "use another namespace, or uninstall it once its data is safe"
        item = "other-release"
    return Finding(item, "problem", what, fix, (f"{one.chart} {one.chart_version}, {one.status}",))


def _other_chart(one: records.Stored, chart: str) -> Finding:
    return Finding(
        "other-release",
        "problem",
        f"the release {one.release} is of the chart {one.chart}, not of {chart}",
        "use another namespace, or uninstall that release once its data is safe",
    )
