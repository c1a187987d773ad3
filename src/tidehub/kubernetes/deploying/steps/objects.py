"""tidehub's own objects beside the charts: network policies, routes, and the like."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tidehub.kubernetes import ownership
from tidehub.kubernetes.deploying.observed import meta_of
from tidehub.kubernetes.deploying.record import digest, without_secrets
from tidehub.kubernetes.deploying.running import Work
from tidehub.kubernetes.objects import Object, ObjectId, identify
from tidehub.kubernetes.ownership import OURS, covers

DIGEST = "tidehub/digest"
"""Annotation with the digest of what was applied: equal means that nobody needs to apply it again."""


@dataclass(frozen=True)
class OwnObjects:
    """Applies them, and removes those of an earlier deployment that are no longer wanted."""

    objects: tuple[Object, ...] = field(repr=False)
    name: str = "objects"
    title: str = "Objects beside the charts"

    def needed(self, work: Work) -> bool:
        """Whether one is missing or differs, or one has to go."""
        live = self._live(work)
        wanted = [_signed(obj) for obj in self.objects]
        return any(
            not _is_as_wanted(work, obj, live.get(identify(obj, work.namespace))) for obj in wanted
        ) or bool(self._gone(work))

    def run(self, work: Work) -> str:
        """Applies all that differ, then removes."""
        live = self._live(work)
        applied = 0
        for obj in map(_signed, self.objects):
            if not _is_as_wanted(work, obj, live.get(identify(obj, work.namespace))):
                work.cluster.apply(obj, work.namespace, force=True)
                applied += 1
        gone = self._gone(work)
        for id in gone:
            work.cluster.delete(id.api_version, id.kind, id.name, id.namespace)
        parts = [f"{applied} applied"] if applied else []
        return ", ".join([*parts, *([f"{len(gone)} removed"] if gone else [])])

    def _live(self, work: Work) -> dict[ObjectId, Object]:
        if "own objects" not in work.facts:
            ids = [identify(obj, work.namespace) for obj in self.objects]
            with ThreadPoolExecutor(max_workers=8) as pool:
                found = list(
                    pool.map(lambda id: work.cluster.get(id.api_version, id.kind, id.name, id.namespace), ids)
                )
            work.facts["own objects"] = {
                id: one for id, one in zip(ids, found, strict=True) if one is not None
            }
        live: dict[ObjectId, Object] = work.facts["own objects"]
        return live

    def _gone(self, work: Work) -> list[ObjectId]:
        """Objects of earlier deployments, by the record, that are still there, ours, and no longer wanted."""
        if "objects to go" not in work.facts:
            wanted = {identify(obj, work.namespace) for obj in self.objects}
            before = {
                identify(obj, work.namespace): None
                for deployed in work.record.revisions[-3:]
                for obj in deployed.objects
            }
            work.facts["objects to go"] = [id for id in before if id not in wanted and is_ours(work, id)]
        found: list[ObjectId] = work.facts["objects to go"]
        return found


def is_ours(work: Work, id: ObjectId) -> bool:
    """Whether that object is there and tidehub made it."""
    return ownership.is_ours(work.cluster.get(id.api_version, id.kind, id.name, id.namespace))


def remembered(objects: Iterable[Object]) -> tuple[Object, ...]:
    """What the record keeps of them, for going back."""
    return without_secrets(objects)


def _signed(obj: Object) -> Object:
    meta = {**meta_of(obj)}
    meta["labels"] = {**(meta.get("labels") or {}), **OURS}
    if obj.get("kind") != "Secret":
        # A digest of a secret would let its guesses be tried.
        meta["annotations"] = {**(meta.get("annotations") or {}), DIGEST: digest(obj)[:16]}
    return {**obj, "metadata": meta}


def _is_as_wanted(work: Work, obj: Object, live: Object | None) -> bool:
    """By our annotation and by the fields: what somebody changed by hand is put back."""
    if live is None or meta_of(live).get("deletionTimestamp"):
        return False
    if _digest_of(obj) != _digest_of(live):
        return False
    wanted = {key: value for key, value in obj.items() if key not in ("metadata", "status", "stringData")}
    if covers(live, wanted):
        return True
    # The server writes some values in its own way (`1000m` as `1`): only it can tell.
    would_be = work.cluster.apply(obj, work.namespace, dry_run=True, force=True)
    return all(would_be.get(key) == live.get(key) for key in {*would_be, *live} - {"metadata", "status"})


def _digest_of(obj: Object) -> str | None:
    annotations = meta_of(obj).get("annotations") or {}
    return annotations.get(DIGEST)
