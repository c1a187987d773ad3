"""The cluster's nodes as room for pods. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.planning.quantities import amount
from tidehub.kubernetes.preflight.workloads import Amounts, pod_amounts

_TOLERATED = frozenset({"hub.jupyter.org/dedicated", "hub.jupyter.org_dedicated"})
"""Taints that the jupyterhub chart's pods tolerate."""
_PASSING = "node.kubernetes.io/"
"""Taints that the cluster sets and takes away itself, for example `not-ready`."""
_OVER = frozenset({"Succeeded", "Failed"})


@dataclass
class Machine:
    """One node: what is on it may still grow while pods are placed."""

    name: str
    total: Amounts
    """Allocatable: what all pods together may request."""
    free: dict[str, Decimal]
    ready: bool
    cordoned: bool
    taints: tuple[Mapping[str, Any], ...]
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def open(self) -> bool:
        """Whether new pods of users may land here."""
        return self.ready and not self.cordoned and not self.refusing

    @property
    def refusing(self) -> tuple[str, ...]:
        """Taints that keep the platform's pods away, those that pass left out."""
        return tuple(
            f"{taint.get('key')}={taint.get('value', '')}:{taint.get('effect')}"
            for taint in self.taints
            if taint.get("effect") in ("NoSchedule", "NoExecute")
            and taint.get("key") not in _TOLERATED
            and not str(taint.get("key")).startswith(_PASSING)
        )

    def holds(self, wanted: Amounts, *, empty: bool = False) -> bool:
        """Whether a pod fits; `empty` asks whether it would if nothing else were here."""
        room = self.total if empty else self.free
        return all(room.get(name, Decimal(0)) >= number for name, number in _with_pod(wanted).items())

    def place(self, wanted: Amounts) -> None:
        """A pod is here now."""
        for name, number in _with_pod(wanted).items():
            self.free[name] = self.free.get(name, Decimal(0)) - number


def machines(nodes: Iterable[Object], pods: Iterable[Object]) -> list[Machine]:
    """The nodes with what their pods request taken off."""
    found = {str(node["metadata"]["name"]): _machine(node) for node in nodes}
    for pod in pods:
        spec = pod.get("spec") or {}
        where = found.get(str(spec.get("nodeName") or ""))
        if where is not None and (pod.get("status") or {}).get("phase") not in _OVER:
            where.place(pod_amounts(spec, "requests"))
    return list(found.values())


def how_many(room: Iterable[Machine], wanted: Amounts) -> int:
    """How many pods of this size fit into what is free."""
    total = 0
    for machine in room:
        counts = [
            int(machine.free.get(name, Decimal(0)) // number)
            for name, number in _with_pod(wanted).items()
            if number > 0
        ]
        total += max(min(counts, default=0), 0)
    return total


def _machine(node: Object) -> Machine:
    status, spec = node.get("status") or {}, node.get("spec") or {}
    conditions = {str(one.get("type")): str(one.get("status")) for one in status.get("conditions") or []}
    total = {
        str(name): number
        for name, number in (
            (name, amount(value)) for name, value in (status.get("allocatable") or {}).items()
        )
        if number is not None
    }
    return Machine(
        name=str(node["metadata"]["name"]),
        total=total,
        free=dict(total),
        ready=conditions.get("Ready") == "True",
        cordoned=bool(spec.get("unschedulable")),
        taints=tuple(spec.get("taints") or ()),
        labels=node["metadata"].get("labels") or {},
    )


def _with_pod(wanted: Amounts) -> dict[str, Decimal]:
    return {**wanted, "pods": Decimal(1)}
