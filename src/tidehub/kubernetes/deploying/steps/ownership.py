"""Whose things a namespace holds, as `kubernetes.ownership` is told it, and how a release takes objects over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from tidehub.kubernetes.cluster.port import ClusterProblem
from tidehub.kubernetes.deploying.observed import meta_of
from tidehub.kubernetes.deploying.running import Work
from tidehub.kubernetes.deploying.stored import live_release, others
from tidehub.kubernetes.deploying.words import Refused, listed
from tidehub.kubernetes.objects import Object, ObjectId, identify, key_of, read_manifest
from tidehub.kubernetes.ownership import Found, Place, Verdict, adoption, object_verdict, objections


def place_of(work: Work) -> Place:
    """The namespace as it is. Read once until something is changed."""
    if "place" not in work.facts:
        made = [one.name for one in work.record.releases]
        live = [one for name in made if (one := live_release(work, name)) is not None]
        ours = {one.name: Found(one.chart, one.version, one.status) for one in live}
        work.facts["place"] = Place(
            work.namespace,
            {**others(work.cluster, work.namespace, made), **ours},
            frozenset(made),
            frozenset(work.record.kept),
            work.options.adopt,
            is_gone=lambda namespace: _is_gone(work, namespace),
        )
    found: Place = work.facts["place"]
    return found


def verdicts(work: Work, release: str | None, objects: Iterable[Object]) -> list[Verdict]:
    """Of the objects that a release brings, or with None tidehub itself. What is the release's is not asked for."""
    place = place_of(work)
    ids = [identify(one, work.namespace) for one in objects]
    live = live_release(work, release) if release else None
    if live is not None:
        known = frozenset(key_of(identify(one, work.namespace)) for one in read_manifest(live.manifest))
        place = replace(place, manifests={live.name: known})
        ids = [id for id in ids if key_of(id) not in known]
    with ThreadPoolExecutor(max_workers=8) as pool:
        found = list(pool.map(lambda id: _get(work, id), ids))
    return [object_verdict(id, one, place, release=release) for id, one in zip(ids, found, strict=True)]


def refuse(work: Work, found: Sequence[Verdict]) -> None:
    """Raises `Refused` with all that stands against it: first what naming it would not help."""
    told = objections(found, work.commands.operation)
    if not told:
        return
    first, *rest = sorted(told, key=lambda one: bool(one.names))
    raise Refused(
        first.what + (f"; besides, {listed((one.what for one in rest), 3)}" if rest else ""),
        expected="nothing of these names, or what tidehub or a release of this site made",
        fix=first.fix,
    )


def take_over(work: Work, release: str, found: Iterable[Verdict]) -> None:
    """Makes objects the release's where that was judged right, so that Helm imports them."""
    for one in found:
        if one.follows == "take-over" and one.id is not None:
            id = one.id
            work.cluster.patch(
                id.api_version, id.kind, id.name, adoption(release, work.namespace), id.namespace
            )


def _get(work: Work, id: ObjectId) -> Object | None:
    try:
        return work.cluster.get(id.api_version, id.kind, id.name, id.namespace)
    except ClusterProblem as problem:
        # What may not be read here may still be there: Helm says so then.
        if problem.reason != "forbidden":
            raise
        return None


def _is_gone(work: Work, namespace: str) -> bool:
    try:
        found = work.cluster.get("v1", "Namespace", namespace)
    except ClusterProblem:
        return False
    return found is None or bool(meta_of(found).get("deletionTimestamp"))
