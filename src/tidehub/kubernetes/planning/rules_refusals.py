"""What the server would refuse, in its own words, and what could not be asked. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tidehub import program
from tidehub.kubernetes.cluster.port import ClusterProblem
from tidehub.kubernetes.objects import ObjectId
from tidehub.kubernetes.planning.facts import Facts
from tidehub.kubernetes.planning.model import Finding
from tidehub.kubernetes.planning.observe import Observation

_IMMUTABLE = re.compile(
    r"immutable|may not (?:be )?change|cannot change|updates to .* are forbidden|are forbidden|"
    r"can ?not be (?:changed|updated|less)|forbidden after creation",
    re.I,
)
_WAY_OUT = {
    "Deployment": "delete it before (kubectl delete --cascade=orphan keeps its pods): it is made anew",
    "StatefulSet": "delete it before (kubectl delete --cascade=orphan keeps its pods and PVCs): it is made anew",
    "DaemonSet": "delete it before: it is made anew",
    "Job": "delete it before: it is made anew",
    "Service": "delete it before: it is made anew, and its cluster address may change",
    "PersistentVolumeClaim": "leave the field as it is, or back up, delete the PVC and restore",
    "RoleBinding": "delete it before: it is made anew",
    "ClusterRoleBinding": "delete it before: it is made anew",
}


def findings(facts: Facts) -> Iterator[Finding]:
    """All of them, in no order."""
    unread: list[Observation] = []
    for one in facts.observations:
        if one.refusal is not None and one.unread and one.refusal.reason == "forbidden":
            unread.append(one)
        elif one.refusal is not None:
            yield _refused(one, one.refusal)
    if unread:
        kinds = sorted({one.subject.id.kind for one in unread})
        problem = unread[0].refusal
        assert problem is not None
        yield Finding(
            "refused", "refusal", f"You may not read {', '.join(kinds)}: {problem.what}.",
            "What would change there is unknown.", f"`{program.command('preflight')}` lists the permissions "
            "that a deployment needs",
            tuple(one.subject.id for one in unread),
        )  # fmt: skip
    yield from _unserved(facts)
    yield from _untried(facts)


def _refused(one: Observation, problem: ClusterProblem) -> Finding:
    id = one.subject.id
    doing = "delete" if one.subject.new is None else "create" if one.live is None else "change"
    immutable = (
        problem.reason == "invalid" and one.live is not None and _IMMUTABLE.search(problem.what) is not None
    )
    return Finding(
        "immutable" if immutable else "refused", "refusal",
        f"The server refuses to {doing} {id}: {_said(problem, id)}",
        "The field keeps the value that the object was made with." if immutable else "",
        (_WAY_OUT.get(id.kind, "delete it before: it is made anew") if immutable else problem.fix) or "", (id,),
    )  # fmt: skip


def _said(problem: ClusterProblem, id: ObjectId) -> str:
    """The server's own sentence: without what was asked, and without the comparison that it adds for PVCs."""
    asked = re.match(rf"\w+ {re.escape(str(id))}: ", problem.what)
    words = problem.what[asked.end() :] if asked else problem.what
    return " ".join(words.partition("\n@@")[0].split())


def _unserved(facts: Facts) -> Iterator[Finding]:
    wanted: dict[tuple[str, str], list[ObjectId]] = {}
    for one in facts.observations:
        if one.unserved:
            id = one.subject.id
            wanted.setdefault((id.api_version, id.kind), []).append(id)
    for (api_version, kind), ids in wanted.items():
        yield Finding(
            "unserved", "refusal", f"The cluster does not know {kind} of {api_version}.",
            f"{len(ids)} of the platform's objects {'is' if len(ids) == 1 else 'are'} of that kind.",
            f"install what brings its CRD (`{program.command('preflight')}` says more), or choose another exposure",
            tuple(ids),
        )  # fmt: skip
    for name, gone in _gone(facts).items():
        kinds = ", ".join(sorted({f"{id.kind} of {id.api_version}" for id in gone}))
        yield Finding(
            "unserved", "notice", f"The record of {name} holds objects that the cluster no longer serves: {kinds}.",
            "Helm would stop at them. A deployment rewrites the record first; the objects live on in a newer version.",
            objects=tuple(gone),
        )  # fmt: skip


def _gone(facts: Facts) -> dict[str, list[ObjectId]]:
    found: dict[str, list[ObjectId]] = {}
    for one in facts.observations:
        if one.record_unserved is not None and one.subject.release is not None:
            found.setdefault(one.subject.release, []).append(one.record_unserved)
    return found


def _untried(facts: Facts) -> Iterator[Finding]:
    new_namespace = [one.subject.id for one in facts.observations if one.untried == "namespace"]
    if new_namespace:
        yield Finding(
            "untried", "notice", f"The namespace {facts.namespace} is new.",
            f"The server could not be asked about the {len(new_namespace)} objects in it: it tries them only where "
            "they will be.",
            objects=tuple(new_namespace),
        )  # fmt: skip
    crds = [one.subject.id for one in facts.observations if one.untried == "crd"]
    if crds:
        yield Finding(
            "untried", "notice",
            f"{len(crds)} {'object is' if len(crds) == 1 else 'objects are'} of kinds that this "
            "deployment brings.",
            "The server could not be asked about them: it learns their kinds first.",
            objects=tuple(crds),
        )  # fmt: skip
