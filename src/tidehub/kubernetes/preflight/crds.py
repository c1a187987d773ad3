"""CustomResourceDefinitions that the charts bring, against those that are there."""

from __future__ import annotations

from collections.abc import Iterator

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.preflight.model import Context, Finding
from tidehub.kubernetes.preflight.ownership import owner_of

_API, _KIND = "apiextensions.k8s.io/v1", "CustomResourceDefinition"
_OLD_GROUPS = {"traefik.containo.us": "traefik.io"}
"""Groups of older charts and what took their place: both stay side by side after an upgrade."""


def crds(context: Context) -> list[Finding]:
    """Each CRD that comes along: whether it is new, the same, of another version, or somebody else's."""
    wanted = context.objects.crds
    if not wanted:
        return []
    look = context.there
    findings: list[Finding] = []
    new, same = [], []
    for crd in wanted:
        live = look.one(_API, _KIND, str(crd["metadata"]["name"]))
        if live is None:
            new.append(str(crd["metadata"]["name"]))
            continue
        judged = list(_judged(crd, live))
        findings += judged
        if not judged:
            same.append(str(crd["metadata"]["name"]))
    findings += _left_behind(context, wanted)
    if new or same:
        parts = [f"{len(new)} come with the deployment"] * bool(new)
        parts += [f"{len(same)} are there"] * bool(same)
        what = f"of {len(wanted)} CRDs, {' and '.join(parts)}"
        findings.insert(0, Finding("crds", "ok", what, evidence=(*new, *same)))
    return findings


def _judged(wanted: Object, live: Object) -> Iterator[Finding]:
    name = str(live["metadata"]["name"])
    owner = owner_of(live) or "owner unknown"
    if live["metadata"].get("deletionTimestamp"):
        yield Finding(
            "crd-deleting",
            "problem",
            f"the CRD {name} is being deleted, and all its objects with it",
            "wait until it is gone; a finalizer whose controller is gone may keep it forever",
            (f"finalizers: {', '.join(live['metadata'].get('finalizers') or ['none'])}",),
        )
        return
    yield from _unestablished(name, live)
    have, want = _versions(live), _versions(wanted)
    said = (f"served there: {', '.join(have) or 'nothing'}", f"the chart's: {', '.join(want)}", owner)
    stored = set((live.get("status") or {}).get("storedVersions") or [])
    unserved = [version for version in want if version not in have]
    if stored - _all_versions(wanted):
        yield Finding(
            "crd-stored",
            "problem",
            f"objects of {name} are stored as {', '.join(sorted(stored))}, which the chart's CRD does not have",
            "have the stored objects rewritten in a version that both have, before the CRD is replaced",
            said,
        )
    elif unserved:
        yield Finding(
            "crd-version",
            "warning",
            f"the CRD {name} is of another version and does not serve {', '.join(unserved)}; it is replaced",
            "nothing, where no other platform needs the old one",
            said,
        )
    elif set(have) - set(want):
        gone = ", ".join(sorted(set(have) - set(want)))
        yield Finding(
            "crd-version",
            "warning",
            f"the CRD {name} also serves {gone}; the deployment replaces it by one that does not",
            "see that nobody uses that version any more",
            said,
        )
    if owner.startswith(("release ", "managed by ")) and owner not in (
        "managed by tidehub",
        "managed by Helm",
    ):
        yield Finding(
            "crd-owner",
            "warning",
            f"the CRD {name} belongs to somebody else: {owner}",
            "agree with its owner: a Kubernetes cluster has one CRD of a name, and the deployment applies the chart's",
            said,
        )


def _unestablished(name: str, live: Object) -> Iterator[Finding]:
    conditions = {str(one.get("type")): one for one in (live.get("status") or {}).get("conditions") or []}
    for kind in ("NamesAccepted", "Established"):
        condition = conditions.get(kind)
        if condition is not None and condition.get("status") != "True":
            yield Finding(
                "crd-established",
                "problem",
                f"the CRD {name} is not served: {condition.get('message') or kind}",
                "another CRD has its names: find it with `kubectl get crd`, and remove what is not needed",
            )
            return


def _left_behind(context: Context, wanted: tuple[Object, ...]) -> Iterator[Finding]:
    groups = {str(crd["spec"]["group"]) for crd in wanted}
    for old, new in _OLD_GROUPS.items():
        if new not in groups or old in groups:
            continue
        there = [
            str(crd["metadata"]["name"])
            for crd in context.there.all(_API, _KIND)
            if (crd.get("spec") or {}).get("group") == old
        ]
        if there:
            yield Finding(
                "crd-group",
                "warning",
                f"CRDs of {old} are there, from an older chart; this one uses {new}",
                "nothing for the deployment; remove them later, if no other platform uses them",
                tuple(there),
            )


def _versions(crd: Object) -> list[str]:
    """Served ones, in their order."""
    spec = crd.get("spec") or {}
    versions = [str(one["name"]) for one in spec.get("versions") or [] if one.get("served")]
    return versions or ([str(spec["version"])] if spec.get("version") else [])


def _all_versions(crd: Object) -> set[str]:
    spec = crd.get("spec") or {}
    return {str(one["name"]) for one in spec.get("versions") or []} | (
        {str(spec["version"])} if spec.get("version") else set()
    )
