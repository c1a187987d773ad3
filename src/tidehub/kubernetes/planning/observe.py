"""What the cluster has of each subject, and what it would make of it. Reads, and writes with `dryRun=All`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from tidehub.kubernetes.cluster.port import Cluster, ClusterProblem
from tidehub.kubernetes.objects import Object, ObjectId, identify, key_of
from tidehub.kubernetes.ownership import Place, Verdict, crd_verdict, is_ours, object_verdict
from tidehub.kubernetes.planning.diff import FieldChange, compare
from tidehub.kubernetes.planning.normal import normal
from tidehub.kubernetes.planning.subjects import Subject, is_kept
from tidehub.kubernetes.planning.three_way import merge_patch, merged

Untried = Literal["", "namespace", "crd"]
"""Why the server could not be asked what it thinks: the namespace, or the kind's CRD, is not there yet."""
_NO_ANSWER = frozenset({"unreachable", "timeout", "unauthorized", "expired"})
"""Reasons that are no verdict on an object."""
_LATER = frozenset({429, 503})
"""HTTP: the server has no time, or is not ready."""
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Observation:
    """One subject and the server's answers."""

    subject: Subject
    live: Object | None = None
    """As the server has it."""
    changes: tuple[FieldChange, ...] = ()
    """From the live object to what it would be, both in `normal` form; empty for what is not there or stays."""
    refusal: ClusterProblem | None = None
    """Why the server would not do it, or not show it."""
    unread: bool = False
    """Whether the reading was refused; without a `refusal` that is no matter."""
    untried: Untried = ""
    unserved: bool = False
    """Whether the server knows no such kind, and no CRD of this deployment brings it."""
    verdict: Verdict | None = None
    """Whose it is, where it was looked at and is wanted."""
    record_unserved: ObjectId | None = None
    """The object as the last release has it, where the server no longer serves that version of its kind."""

    @property
    def foreign(self) -> bool:
        """Whether it is not ours to touch."""
        return self.verdict is not None and self.verdict.refused


def together(work: Sequence[Callable[[], Answer]], threads: int) -> list[Answer]:
    """Every answer in the order of the questions, asked at the same time. The first failure is raised."""
    if not work:
        return []
    with ThreadPoolExecutor(max(1, min(threads, len(work))), thread_name_prefix="plan") as pool:
        pending: list[Future[Answer]] = [pool.submit(one) for one in work]
        try:
            return [one.result() for one in pending]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class LiveObjects:
    """Objects as the server has them, each read once. Safe for several threads, one for each object."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._found: dict[ObjectId, Object | ClusterProblem | None] = {}
        self._silent: ClusterProblem | None = None

    def fetch(self, id: ObjectId) -> None:
        """Reads ahead: what is wrong with it is raised when somebody wants it."""
        if self._silent is not None:
            # Who waits for each of sixty answers of a server that gives none waits for minutes.
            self._found.setdefault(id, self._silent)
        if id not in self._found:
            try:
                self._found[id] = self._cluster.get(id.api_version, id.kind, id.name, id.namespace)
            except ClusterProblem as problem:
                self._found[id] = problem
                if problem.reason in _NO_ANSWER:
                    self._silent = problem

    def get(self, id: ObjectId) -> Object | None:
        """The object, or None where there is none. Raises `ClusterProblem`."""
        self.fetch(id)
        found = self._found[id]
        if isinstance(found, ClusterProblem):
            raise found
        return found


class Observer:
    """Asks one cluster about subjects. Safe for several threads once made."""

    def __init__(
        self,
        cluster: Cluster,
        live: LiveObjects,
        namespace: str,
        *,
        exists: bool,
        crds: Iterable[Object] = (),
        place: Place,
    ) -> None:
        self._cluster = cluster
        self._live = live
        self._namespace = namespace
        self._exists = exists
        self._place = replace(place, is_gone=self._is_gone)
        self._served = {(kind.api_version, kind.kind) for kind in cluster.served()}
        self._coming = {pair for crd in crds for pair in _brings(crd)}

    def serves(self, api_version: str, kind: str) -> bool:
        """Whether the server has such a kind now."""
        return (api_version, kind) in self._served

    def observe(self, subject: Subject) -> Observation:
        """Asks what is there and what would become of it. Raises `ClusterProblem` where nobody answers."""
        found = self._observe(subject)
        if subject.part == "release" and subject.last is not None:
            before = identify(subject.last, subject.home)
            pair = (before.api_version, before.kind)
            if not self.serves(*pair) and pair not in self._coming:
                return replace(found, record_unserved=before)
        return found

    def _observe(self, subject: Subject) -> Observation:
        obj = subject.new or subject.last
        assert obj is not None
        pair = (subject.id.api_version, subject.id.kind)
        if pair not in self._served:
            if subject.new is None:
                return Observation(subject)
            coming = pair in self._coming
            return Observation(subject, untried="crd" if coming else "", unserved=not coming)
        if subject.id.namespace == self._namespace and not self._exists:
            return Observation(subject, untried="namespace")
        try:
            live = self._live.get(subject.id)
        except ClusterProblem as problem:
            if subject.part == "crd" and problem.reason == "forbidden" and self._all_served(subject.new):
                # The whole cluster's: an administrator brought it, and a deployment leaves it so.
                return Observation(subject, unread=True)
            return Observation(subject, refusal=_answered(problem), unread=True)
        if subject.new is None:
            return self._leaving(subject, live)
        verdict = self._verdict(subject, subject.new, live)
        if verdict.follows in ("refuse", "leave"):
            return Observation(subject, live, verdict=verdict)
        try:
            changes, refusal = self._would_change(subject, subject.new, live), None
        except ClusterProblem as problem:
            changes, refusal = self._by_itself(subject, live), _answered(problem)
        return Observation(subject, live, changes, refusal, verdict=verdict)

    def _verdict(self, subject: Subject, new: Object, live: Object | None) -> Verdict:
        if subject.part == "crd":
            return crd_verdict(new, live, self._place)
        known = {subject.release or "": frozenset([key_of(subject.id)])} if subject.last is not None else {}
        return object_verdict(
            subject.id, live, replace(self._place, manifests=known), release=subject.release
        )

    def _leaving(self, subject: Subject, live: Object | None) -> Observation:
        if live is None or subject.protected or is_kept(live):
            return Observation(subject, live)
        if subject.part == "own" and not is_ours(live):
            # Somebody made another one of that name since; it is theirs.
            return Observation(subject)
        try:
            self._cluster.delete(
                subject.id.api_version, subject.id.kind, subject.id.name, subject.id.namespace, dry_run=True
            )
        except ClusterProblem as problem:
            return Observation(subject, live, refusal=_answered(problem))
        return Observation(subject, live)

    def _is_gone(self, namespace: str) -> bool:
        try:
            found = self._live.get(ObjectId("v1", "Namespace", None, namespace))
        except ClusterProblem:
            return False
        return found is None or bool(found["metadata"].get("deletionTimestamp"))

    def _all_served(self, crd: Object | None) -> bool:
        return crd is not None and all(pair in self._served for pair in _brings(crd))

    def _would_change(self, subject: Subject, new: Object, live: Object | None) -> tuple[FieldChange, ...]:
        """The changes of a dry run; none for what is not there yet."""
        where = subject.id.namespace
        if live is None:
            if subject.part == "release":
                self._cluster.create(new, where, dry_run=True)
            else:
                self._cluster.apply(new, where, dry_run=True, force=True)
            return ()
        if subject.part == "release":
            patch = self._patch(subject, new, live)
            if not patch:
                return ()
            would = self._cluster.patch(
                str(new["apiVersion"]), subject.id.kind, subject.id.name, patch, where, dry_run=True
            )
        else:
            would = self._cluster.apply(new, where, dry_run=True, force=True)
        return compare(normal(live), normal(would))

    def _patch(self, subject: Subject, new: Object, live: Object) -> dict[str, Any]:
        now = normal(live)
        last = None if subject.last is None else normal(subject.last)
        wanted = normal(new)
        # Where it is, is not a field that could change.
        wanted["metadata"].setdefault("namespace", now["metadata"].get("namespace"))
        if wanted["metadata"]["namespace"] is None:
            del wanted["metadata"]["namespace"]
        return merge_patch(now, merged(last, now, wanted))

    def _by_itself(self, subject: Subject, live: Object | None) -> tuple[FieldChange, ...]:
        """What was asked for, where the server refused it and so does not say what it would hold."""
        if live is None or subject.new is None:
            return ()
        now = normal(live)
        last = None if subject.last is None else normal(subject.last)
        return compare(now, merged(last, now, normal(subject.new)))


def _brings(crd: Object) -> list[tuple[str, str]]:
    spec = crd.get("spec") or {}
    kind = str((spec.get("names") or {}).get("kind", ""))
    return [
        (f"{spec.get('group')}/{version.get('name')}", kind)
        for version in spec.get("versions") or []
        if version.get("served")
    ]


def _answered(problem: ClusterProblem) -> ClusterProblem:
    if problem.reason in _NO_ANSWER or problem.status in _LATER:
        raise problem
    return problem
