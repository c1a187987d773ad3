"""Whether this user may do exactly what a deployment does, and the Role to ask for where not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from tidehub.kubernetes.cluster.port import Access, ClusterProblem
from tidehub.kubernetes.objects import CLUSTER_KINDS, Object
from tidehub.kubernetes.preflight.model import Context, Finding

_WRITE = ("get", "create", "patch", "delete")
"""What Helm and tidehub do with every object of theirs."""
_WAITED = frozenset(
    {"Deployment", "StatefulSet", "DaemonSet", "Job", "Pod", "PersistentVolumeClaim", "ReplicaSet"}
)
"""Kinds that a deployment watches until they are ready."""
_ALWAYS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    # Helm keeps its records in Secrets.
    ("", "secrets", ("get", "list", "create", "update", "patch", "delete")),
    # tidehub's own record and its lock.
    ("", "configmaps", ("get", "list", "create", "update", "patch", "delete")),
    ("coordination.k8s.io", "leases", ("get", "create", "update", "patch", "delete")),
    # Waiting, and saying what a wait is for.
    ("", "pods", ("get", "list", "watch")),
    ("batch", "jobs", ("list",)),
    ("", "pods/log", ("get",)),
    ("", "events", ("list",)),
    ("", "persistentvolumeclaims", ("get", "list", "watch")),
    ("apps", "deployments", ("get", "list", "watch")),
    ("apps", "replicasets", ("list",)),
    # The copy of the hub's database before an upgrade; the helper pod that takes it where the hub is down.
    ("", "pods/exec", ("create",)),
    ("", "pods", ("create", "delete")),
)
_BY_CUSTOM = {
    "": ("services", "serviceaccounts", "persistentvolumeclaims", "pods"),
    "apps": ("deployments", "daemonsets"),
    "batch": ("jobs",),
    "networking.k8s.io": ("ingresses", "networkpolicies"),
    "policy": ("poddisruptionbudgets",),
    "rbac.authorization.k8s.io": ("roles", "rolebindings"),
}
"""What the charts make in every version, for where they could not be rendered."""
_MOST_VERBS = 400
"""Reviews asked at most for what Roles grant."""


def permissions(context: Context) -> Finding:
    """Everything that a deployment does, asked as self-subject access reviews."""
    wanted = list(dict.fromkeys(needed(context)))
    answers = context.there.cluster.allowed(wanted)
    missing = [access for access, allowed in zip(wanted, answers, strict=True) if not allowed]
    if missing:
        return Finding(
            "permissions",
            "problem",
            f"{len(missing)} of {len(wanted)} permissions that a deployment needs are missing",
            "ask an administrator for these permissions, bound to you:\n"
            + snippet(missing, context.namespace),
            tuple(_summary(missing)),
        )
    return Finding("permissions", "ok", f"you have all {len(wanted)} permissions that a deployment needs")


def needed(context: Context) -> Iterator[Access]:
    """The rights that a deployment of this site needs, in this namespace and beyond it."""
    namespace, look = context.namespace, context.there
    yield Access("get", "namespaces", name=namespace)
    try:
        if look.one("v1", "Namespace", namespace) is None:
            yield Access("create", "namespaces")
    except ClusterProblem as problem:
        if problem.reason != "forbidden":
            raise
    for group, resource, verbs in _ALWAYS:
        yield from (Access(verb, resource, group, namespace) for verb in verbs)
    if context.rendered is None:
        yield from (
            Access(verb, resource, group, namespace)
            for group, resources in _BY_CUSTOM.items()
            for resource in resources
            for verb in _WRITE
        )
        return
    hooks = (obj for release in context.rendered.releases for obj in release.hooks)
    for obj in chain((obj for _, obj in context.rendered.everything()), hooks):
        kind = str(obj["kind"])
        group = str(obj["apiVersion"]).rpartition("/")[0]
        plural = _plural(context, obj)
        where = (
            None if kind in CLUSTER_KINDS else str((obj.get("metadata") or {}).get("namespace") or namespace)
        )
        if kind == "CustomResourceDefinition":
            # They are never deleted: other platforms' objects would go with them.
            needs: tuple[str, ...] = ("get", "list", "create", "patch")
        else:
            needs = (*_WRITE, *(("list", "watch") if kind in _WAITED else ()))
        yield from (Access(verb, plural, group, where) for verb in needs)


def grants(context: Context) -> list[Finding]:
    """Whether one may hand out what the charts' Roles grant: nobody may give a right that they do not have."""
    roles = [obj for _, obj in context.objects.everything() if obj["kind"] in ("Role", "ClusterRole")]
    if not roles:
        return []
    cluster, namespace = context.there.cluster, context.namespace
    rbac = "rbac.authorization.k8s.io"
    kinds = sorted({str(role["kind"]) for role in roles})
    free = cluster.allowed(
        [
            Access("escalate", f"{kind.lower()}s", rbac, namespace if kind == "Role" else None)
            for kind in kinds
        ]
    )
    bound = [role for role in roles if not dict(zip(kinds, free, strict=True))[str(role["kind"])]]
    wanted = list(dict.fromkeys(access for role in bound for access in _granted(role, namespace)))[
        :_MOST_VERBS
    ]
    if not wanted:
        return [Finding("grants", "ok", "you may create the Roles of the charts")]
    answers = cluster.allowed(wanted)
    missing = [access for access, allowed in zip(wanted, answers, strict=True) if not allowed]
    if not missing:
        return [Finding("grants", "ok", "you have every permission that the charts' Roles grant")]
    return [
        Finding(
            "grants",
            "problem",
            "the charts' Roles grant permissions that you do not have yourself, so the server would refuse them",
            "ask for these permissions, or for the verb `escalate` on roles:\n"
            + snippet(missing, namespace, "tidehub-grants"),
            tuple(_summary(missing)),
        )
    ]


def snippet(missing: Iterable[Access], namespace: str, name: str = "tidehub-deploy") -> str:
    """A Role and a ClusterRole with these rights, as YAML to hand to an administrator.

    Each item names its own: applied under one name, the second would take the first one's rights away.
    """
    within = [access for access in missing if access.namespace]
    beyond = [access for access in missing if not access.namespace]
    parts = [
        _role("Role", f"{name}\n  namespace: {where}", [one for one in within if one.namespace == where])
        for where in sorted({str(access.namespace) for access in within})
    ]
    if beyond:
        parts.append(_role("ClusterRole", f"{name}-{namespace}", beyond))
    return "\n---\n".join(parts)


def _role(kind: str, name: str, missing: Iterable[Access]) -> str:
    verbs: dict[tuple[str, str], list[str]] = {}
    for access in missing:
        verbs.setdefault((access.group, access.resource), []).append(access.verb)
    # One rule for all resources of a group that want the same verbs.
    rules: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (group, resource), wanted in verbs.items():
        rules.setdefault((group, tuple(dict.fromkeys(wanted))), []).append(resource)
    lines = [
        "apiVersion: rbac.authorization.k8s.io/v1",
        f"kind: {kind}",
        "metadata:",
        f"  name: {name}",
        "rules:",
    ]
    for (group, wanted_verbs), resources in rules.items():
        lines.append(f'- apiGroups: ["{group}"]')
        lines.append(f"  resources: [{', '.join(sorted(set(resources)))}]")
        lines.append(f"  verbs: [{', '.join(repr(one) if one == '*' else one for one in wanted_verbs)}]")
    return "\n".join(lines)


def _summary(missing: Iterable[Access]) -> list[str]:
    verbs: dict[str, list[str]] = {}
    for access in missing:
        what = f"{access.resource}.{access.group}" if access.group else access.resource
        verbs.setdefault(what if access.namespace else f"{what} (of the cluster)", []).append(access.verb)
    return [f"{what}: {', '.join(dict.fromkeys(names))}" for what, names in verbs.items()]


def _granted(role: Object, namespace: str) -> Iterator[Access]:
    where = namespace if role["kind"] == "Role" else None
    for rule in role.get("rules") or []:
        for group in rule.get("apiGroups") or []:
            for resource in rule.get("resources") or []:
                for verb in rule.get("verbs") or []:
                    for name in rule.get("resourceNames") or [None]:
                        yield Access(str(verb), str(resource), str(group), where, name)


def _plural(context: Context, obj: Object) -> str:
    """The resource of a kind: by the server, by a CRD that comes along, else by the custom of plurals."""
    kind, version = str(obj["kind"]), str(obj["apiVersion"])
    known: Mapping[tuple[str, str], tuple[str, bool]] = context.there.plurals()
    if (version, kind) in known:
        return known[(version, kind)][0]
    for crd in context.rendered.crds if context.rendered else ():
        names = crd["spec"]["names"]
        if names["kind"] == kind and crd["spec"]["group"] == version.rpartition("/")[0]:
            return str(names["plural"])
    lowered = kind.lower()
    return (
        f"{lowered[:-1]}ies"
        if lowered.endswith("y")
        else f"{lowered}es"
        if lowered.endswith("s")
        else f"{lowered}s"
    )
