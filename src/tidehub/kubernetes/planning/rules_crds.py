"""CustomResourceDefinitions: missing, changed, of another group, or in the hands of others. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.planning.facts import Facts
from tidehub.kubernetes.planning.model import Finding
from tidehub.kubernetes.planning.observe import Observation
from tidehub.site.charts import parts

CRD = "CustomResourceDefinition"


def findings(facts: Facts) -> Iterator[Finding]:
    """All of them, in no order."""
    ours = [one for one in facts.of_kind(CRD) if one.subject.part == "crd"]
    missing = [one.subject.id for one in ours if one.live is None and one.refusal is None and not one.unread]
    if missing:
        yield Finding(
            "crd", "notice", f"{len(missing)} {_crds(len(missing))} not in the cluster yet.",
            "Helm never updates what is in a chart's crds/: the deployment applies them first.",
            objects=tuple(missing),
        )  # fmt: skip
    changed = [one for one in ours if one.live is not None and one.changes]
    if changed:
        yield Finding(
            "crd", "notice", f"{len(changed)} {_crds(len(changed))} in the cluster in another version.",
            "They are the whole cluster's: other installations of the same kinds see the change, too.",
            objects=tuple(one.subject.id for one in changed),
        )  # fmt: skip
    yield from _older(changed)
    for one in changed:
        yield from _versions(one)
    yield from _groups(facts)


def _older(changed: list[Observation]) -> Iterator[Finding]:
    """CRDs in the cluster that something newer brought."""
    older = [one for one in changed if _generator(one.subject.new) < _generator(one.live)]
    if older:
        yield Finding(
            "crd", "danger",
            f"{len(older)} {_crds(len(older))} in the cluster in a newer version, and would go back.",
            "Something newer uses them, in this or another namespace: fields that it needs may be dropped.",
            "see who uses them; with charts of the same age nothing goes back", tuple(one.subject.id for one in older),
        )  # fmt: skip


def _generator(crd: Object | None) -> tuple[int, ...]:
    """Version of the program that wrote a CRD (controller-gen), which goes up with its project; else empty."""
    annotations = ((crd or {}).get("metadata") or {}).get("annotations") or {}
    return parts(str(annotations.get("controller-gen.kubebuilder.io/version", "")).removeprefix("v"))


def _versions(one: Observation) -> Iterator[Finding]:
    wanted = {version["name"]: version for version in _spec(one.subject.new).get("versions") or []}
    there = {version["name"]: version for version in _spec(one.live).get("versions") or []}
    gone = [
        name
        for name, version in there.items()
        if version.get("served") and not wanted.get(name, {}).get("served")
    ]
    if gone:
        yield Finding(
            "crd", "danger", f"{one.subject.id.name} would no longer be served as {', '.join(gone)}.",
            "Programs that use these versions no longer find the objects.",
            "move the objects to the new version first", (one.subject.id,),
        )  # fmt: skip


def _groups(facts: Facts) -> Iterator[Finding]:
    """Kinds whose objects move from one API group to another, as Traefik's did with its version 3."""
    leaving = {
        (one.subject.id.group, one.subject.id.kind)
        for one in facts.observations
        if one.subject.new is None and one.subject.part == "release"
    }
    coming = {
        (one.subject.id.group, one.subject.id.kind)
        for one in facts.observations
        if one.subject.new is not None and one.subject.last is None and one.subject.part == "release"
    }
    moves = sorted(
        {
            (old, new)
            for old, kind in leaving
            for new, other in coming
            if kind == other and old != new and "traefik" in old + new
        }
    )
    for old, new in moves:
        kinds = sorted({kind for group, kind in leaving if group == old})
        count = facts.clusters
        running = (
            f"{count} Dask {'cluster is' if count == 1 else 'clusters are'} there now. " if count else ""
        )
        yield Finding(
            "crd", "danger", f"The routes of the gateway ({', '.join(kinds)}) move from the group {old} to {new}.",
            f"{running}Routes of running Dask clusters are in the old group, which the new proxy does not read: their "
            "notebooks lose them.",
            "have users stop their Dask clusters before",
        )  # fmt: skip


def _spec(obj: Object | None) -> dict[str, Any]:
    return (obj or {}).get("spec") or {}


def _crds(count: int) -> str:
    return "CustomResourceDefinition is" if count == 1 else "CustomResourceDefinitions are"
