"""What the cluster has of each subject, and what it would make of it. Reads, and writes with `dryRun=All`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from tidehub.kubernetes.cluster.port import Cluster, ClusterProblem
from tidehub.kubernetes.objects import Object, ObjectId, identify
from tidehub.kubernetes.planning.diff import FieldChange, compare
from tidehub.kubernetes.planning.normal import normal
from tidehub.kubernetes.planning.subjects import MANAGED_BY, Subject, is_kept
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
    """Whether it is the reading that was refused."""
    untried: Untried = ""
    unserved: bool = False
    """Whether the server knows no such kind, and no CRD of this deployment brings it."""
    foreign: bool = False
    """Whether it is there and Helm's (or tidehub's) marks say that it is somebody else's."""
    owner: str = ""
    """The owner where it is somebody else: `release x in the namespace y`; empty for nobody."""
    record_unserved: ObjectId | None = None
    """The object as the last release has it, where the server no longer serves that version of its kind."""


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
        releases: Iterable[str] = (),
        kept: Iterable[str] = (),
    ) -> None:
        """`releases` are the names of all in the namespace, `kept` what an uninstalled one left for the next."""
        self._cluster = cluster
        self._live = live
        self._namespace = namespace
        self._exists = exists
        self._releases = frozenset(releases)
        self._kept = frozenset(kept)
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
            return Observation(subject, refusal=_verdict(problem), unread=True)
        if subject.new is None:
            return self._leaving(subject, live)
        owner = foreign_owner(subject, live) if live is not None and subject.last is None else None
        if live is not None and owner is not None and not self._may_take(subject, live):
            return Observation(subject, live, foreign=True, owner=owner)
        try:
            return Observation(subject, live, self._would_change(subject, subject.new, live))
        except ClusterProblem as problem:
            return Observation(subject, live, self._by_itself(subject, live), _verdict(problem))

    def _leaving(self, subject: Subject, live: Object | None) -> Observation:
        if live is None or subject.protected or is_kept(live):
            return Observation(subject, live)
        if subject.part == "own" and foreign_owner(subject, live) is not None:
            # Somebody made another one of that name since; it is theirs.
            return Observation(subject)
        try:
            self._cluster.delete(
                subject.id.api_version, subject.id.kind, subject.id.name, subject.id.namespace, dry_run=True
            )
        except ClusterProblem as problem:
            return Observation(subject, live, refusal=_verdict(problem))
        return Observation(subject, live)

    def _may_take(self, subject: Subject, live: Object) -> bool:
        """Whether a deployment takes the object over by itself: its owner no longer exists."""
        annotations = (live.get("metadata") or {}).get("annotations") or {}
        release, where = (annotations.get(f"meta.helm.sh/release-{part}") for part in ("name", "namespace"))
        if subject.release is None or not release or not where:
            return False
        if where == subject.home:
            return f"{subject.id.kind}/{subject.id.name}" in self._kept and release not in self._releases
        try:
            namespace = self._live.get(ObjectId("v1", "Namespace", None, where))
        except ClusterProblem:
            return False
        return namespace is None or bool(namespace["metadata"].get("deletionTimestamp"))

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
            if subject.part == "crd" and _same_crd(new, live):
                return ()
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


def foreign_owner(subject: Subject, live: Object) -> str | None:
    """The owner of a live object that the last release did not have; None where this deployment may have it.

    Helm refuses what lacks its label and both of its annotations (helm, pkg/action/validate.go).
    """
    meta = live.get("metadata") or {}
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    release, where = (annotations.get(f"meta.helm.sh/release-{part}", "") for part in ("name", "namespace"))
    managed = labels.get(MANAGED_BY, "")
    helm = f"release {release} in the namespace {where or '?'}" if release else ""
    if subject.part == "crd" or subject.id.kind == "Namespace":
        return None
    if subject.part == "own":
        return None if managed == "tidehub" else helm or (f"managed by {managed}" if managed else "")
    if managed == "Helm" and release == subject.release and where == subject.home:
        return None
    return helm or (f"managed by {managed}" if managed else "")


def _same_crd(new: Object, live: Object) -> bool:
    wanted, there = normal(new)["spec"], normal(live)["spec"]
    return all(wanted.get(part) == there.get(part) for part in ("group", "scope", "versions"))


def _brings(crd: Object) -> list[tuple[str, str]]:
    spec = crd.get("spec") or {}
    kind = str((spec.get("names") or {}).get("kind", ""))
    return [
        (f"{spec.get('group')}/{version.get('name')}", kind)
        for version in spec.get("versions") or []
        if version.get("served")
    ]


def _verdict(problem: ClusterProblem) -> ClusterProblem:
    if problem.reason in _NO_ANSWER or problem.status in _LATER:
        raise problem
    return problem
