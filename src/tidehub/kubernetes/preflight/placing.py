"""Pods that no node of this cluster could ever hold, however empty."""

from __future__ import annotations

from tidehub.kubernetes.preflight.capacity import room, scales
from tidehub.kubernetes.preflight.model import Context, Finding, NotKnown
from tidehub.kubernetes.preflight.workloads import Workload, told, user_pods, workloads


def fits(context: Context) -> list[Finding]:
    """Every kind of pod against every node as if it were empty."""
    machines = [one for one in room(context) if not one.cordoned and not one.refusing]
    if not machines:
        raise NotKnown("no node takes the platform's pods")
    wanted: list[Workload] = user_pods(context.site)
    if context.rendered is not None:
        wanted = [*workloads(context.rendered), *wanted]
    never = [
        one for one in wanted if not any(machine.holds(one.requests, empty=True) for machine in machines)
    ]
    if not never:
        return [Finding("fits", "ok", "every kind of pod fits on some node")]
    largest = max(machines, key=lambda one: one.total.get("memory", 0))
    sizes = told({name: largest.total[name] for name in ("cpu", "memory") if name in largest.total})
    evidence = (f"the largest node, {largest.name}, holds {sizes}",)
    growing = scales(context)
    return [
        Finding(
            "fits",
            "warning" if growing else "problem",
            f"{one.name} never fits on any node: it wants {told(one.requests)}",
            "add larger nodes, or ask for less in the site file"
            + (
                " (something here makes nodes on demand: see whether it makes ones this large)"
                if growing
                else ""
            ),
            evidence,
        )
        for one in never
    ]
