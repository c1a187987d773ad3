"""CustomResourceDefinitions that the charts bring, against those that are there."""

from __future__ import annotations

from collections.abc import Iterator

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.ownership import Verdict, crd_verdict, served_versions
from tidehub.kubernetes.preflight.model import Context, Finding
from tidehub.kubernetes.preflight.ownership import place_of, refused

_API, _KIND = "apiextensions.k8s.io/v1", "CustomResourceDefinition"
_OLD_GROUPS = {"traefik.containo.us": "traefik.io"}
"""Groups of older charts and what took their place: both stay side by side after an upgrade."""


def crds(context: Context) -> list[Finding]:
    """Each CRD that comes along: whether it is new, there, of another version, or somebody else's."""
    wanted = context.objects.crds
    if not wanted:
        return []
    place = place_of(context)
    live = [context.there.one(_API, _KIND, str(crd["metadata"]["name"])) for crd in wanted]
    judged = [crd_verdict(crd, one, place) for crd, one in zip(wanted, live, strict=True)]
    findings = refused("crds", judged)
    for crd, one, verdict in zip(wanted, live, judged, strict=True):
        if one is not None and verdict.follows in ("ours", "take-over"):
            findings += _changes(crd, one, verdict)
    findings += _left_behind(context, wanted)
    counts = {
        "come with the deployment": [one for one in judged if one.follows == "install"],
        "are there": [one for one in judged if one.follows == "leave" and not one.owner],
        "are somebody else's, serve what is needed and stay as they are": [
            one for one in judged if one.follows == "leave" and one.owner
        ],
    }
    parts = [f"{len(several)} {words}" for words, several in counts.items() if several]
    if parts:
        what = f"of {len(wanted)} CRDs, {' and '.join(parts)}"
        told = tuple(
            f"{one.name}{f': {one.owner}' * bool(one.owner)}" for each in counts.values() for one in each
        )
        findings.insert(0, Finding("crds", "ok", what, evidence=told))
    return findings


def _changes(wanted: Object, live: Object, verdict: Verdict) -> Iterator[Finding]:
    have, want = served_versions(live), served_versions(wanted)
    gone, new = sorted(set(have) - set(want)), [one for one in want if one not in have]
    if gone or new:
        words = f"does not serve {', '.join(new)}; it is replaced" if new else ""
        words = words or f"also serves {', '.join(gone)}; the deployment replaces it by one that does not"
        yield Finding(
            "crd-version",
            "warning",
            f"the CRD {verdict.name} is of another version and {words}",
            "see that no other platform of this cluster needs the old one",
            (
                f"served there: {', '.join(have) or 'nothing'}",
                f"the chart's: {', '.join(want)}",
                verdict.owner or "ours",
            ),
        )


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
