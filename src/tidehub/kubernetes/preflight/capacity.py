"""The nodes, and how many users fit on them beside the platform."""

from __future__ import annotations

from decimal import Decimal

from tidehub.kubernetes.preflight.machines import Machine, how_many, machines
from tidehub.kubernetes.preflight.model import Context, Finding, NotKnown
from tidehub.kubernetes.preflight.ownership import existing
from tidehub.kubernetes.preflight.workloads import told, user_pods, workloads

_SCALERS = (
    ("autoscaling.x-k8s.io/v1", "ProvisioningRequest"),
    ("karpenter.sh/v1", "NodePool"),
    ("cluster.x-k8s.io/v1beta1", "MachineDeployment"),
)
"""Kinds that show that somebody makes nodes on demand."""


def nodes(context: Context) -> list[Finding]:
    """Which nodes are ready and open."""
    found = room(context)
    if not found:
        return [Finding("nodes", "problem", "the cluster has no nodes", "have nodes joined to it")]
    unready = [one.name for one in found if not one.ready]
    usable = [one for one in found if one.open]
    findings = []
    if unready:
        state = "problem" if len(unready) == len(found) else "warning"
        findings.append(
            Finding(
                "nodes",
                state,  # type: ignore[arg-type]
                f"{len(unready)} of {len(found)} nodes {'is' if len(unready) == 1 else 'are'} not ready",
                "have them repaired: their kubelet reports nothing, or a problem (`kubectl describe node`)",
                tuple(unready),
            )
        )
    tainted = [f"{one.name}: {', '.join(one.refusing)}" for one in found if one.ready and one.refusing]
    cordoned = [one.name for one in found if one.cordoned]
    if not usable and len(unready) < len(found):
        findings.append(
            Finding(
                "taints",
                "problem",
                "no node takes the platform's pods: all are tainted, cordoned or not ready",
                "take a taint away, uncordon a node, or give the pods a toleration in overrides.helm",
                (*tainted, *(f"{name}: cordoned" for name in cordoned)),
            )
        )
    if findings:
        return findings
    closed = (
        f"; {len(found) - len(usable)} take none of the platform's pods" if len(usable) < len(found) else ""
    )
    return [Finding("nodes", "ok", f"{_counted(len(found))} ready{closed}", evidence=tuple(tainted))]


def users(context: Context) -> Finding:
    """How many users' servers fit at once, by what they are guaranteed."""
    usable = [one for one in room(context) if one.open]
    if not usable:
        raise NotKnown("no node takes pods, so no server fits")
    homeless = _place_platform(context, usable)
    server = next(
        one
        for one in user_pods(context.site)
        if one.name.endswith(f" {context.site.notebooks.default_profile.name}")
    )
    count = how_many(usable, server.requests)
    each = told(server.requests)
    evidence = tuple(f"{one.name}: {_free(one)} left beside the platform" for one in usable)
    if homeless:
        return Finding(
            "users",
            "warning" if scales(context) else "problem",
            f"the platform itself does not fit now: no room for {homeless[0]}"
            + (f" and {len(homeless) - 1} more" if len(homeless) > 1 else ""),
            "add nodes, or end what takes the room",
            evidence,
        )
    if count == 0:
        state = "warning" if scales(context) else "problem"
        return Finding(
            "users",
            state,  # type: ignore[arg-type]
            f"the platform fits, and no user's server beside it ({each} each)",
            "add nodes, or lower the guarantees in notebooks",
            evidence,
        )
    fits = "one user fits" if count == 1 else f"{count} users fit"
    return Finding("users", "ok", f"{fits} at once in the default profile, {each} each", evidence=evidence)


def room(context: Context) -> list[Machine]:
    """The nodes as they are now. Raises `ClusterProblem` where one may not look."""
    look = context.there
    return machines(look.all("v1", "Node"), look.all("v1", "Pod"))


def scales(context: Context) -> bool:
    """Whether something seems to make nodes on demand."""
    look = context.there
    if any(look.serves(*kind) for kind in _SCALERS):
        return True
    return look.one("v1", "ConfigMap", "cluster-autoscaler-status", "kube-system") is not None


def _place_platform(context: Context, usable: list[Machine]) -> list[str]:
    """Puts what is not running yet where it fits first; the names of what fits nowhere."""
    if context.rendered is None:
        return []
    there = {str(identity) for identity in existing(context)}
    homeless = []
    for one in workloads(context.rendered):
        if one.hook or one.name in there:
            continue
        targets = usable if one.count == 0 else []
        for machine in targets:
            machine.place(one.requests)
        for _ in range(one.count):
            fitting = next((machine for machine in usable if machine.holds(one.requests)), None)
            if fitting is None:
                homeless.append(one.name)
                break
            fitting.place(one.requests)
    return homeless


def _free(machine: Machine) -> str:
    return told(
        {name: max(machine.free[name], Decimal(0)) for name in ("cpu", "memory") if name in machine.free}
    )


def _counted(count: int) -> str:
    return "the node is" if count == 1 else f"all {count} nodes are"
