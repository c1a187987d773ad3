"""The namespace: made where it is missing, refused where it is about to vanish."""

from __future__ import annotations

from tidehub.errors import TidehubError
from tidehub.kubernetes.cluster.port import ClusterProblem
from tidehub.kubernetes.deploying.observed import meta_of, status_of
from tidehub.kubernetes.deploying.running import Work
from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.ownership import OURS


class NamespaceEnding(TidehubError):
    """The namespace is being deleted."""

    def __init__(self, namespace: str, evidence: tuple[str, ...]) -> None:
        self.evidence = evidence
        super().__init__(
            f"the namespace {namespace} is being deleted",
            expected="a namespace that stays, or none",
            fix="wait until it is gone; where something keeps it, the lines above name what (finalizers)",
        )


def ensure_namespace(work: Work) -> None:
    """Makes it, with our label. Raises `NamespaceEnding` with what keeps it, `ClusterProblem` where we may not."""
    try:
        found = work.cluster.get("v1", "Namespace", work.namespace)
    except ClusterProblem as problem:
        if problem.reason != "forbidden":
            raise
        # With rights in the namespace alone, nothing can be asked of it; it is there, or what comes next says so.
        return
    if found is None:
        work.say.step(f"Making the namespace {work.namespace}")
        made: Object = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": work.namespace, "labels": dict(OURS)},
        }
        try:
            work.cluster.create(made)
        except ClusterProblem as problem:
            if problem.reason != "conflict":
                raise
        else:
            work.say.done(f"Namespace {work.namespace}: made")
        return
    if meta_of(found).get("deletionTimestamp"):
        raise NamespaceEnding(work.namespace, keeps(found))


def keeps(namespace: Object) -> tuple[str, ...]:
    """What a namespace that is being deleted waits for, in the cluster's words."""
    return tuple(
        " ".join(str(one.get("message") or "").split())
        for one in status_of(namespace).get("conditions") or []
        if one.get("status") == "True" and one.get("message")
    )
