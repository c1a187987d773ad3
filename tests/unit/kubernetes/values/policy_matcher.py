"""NetworkPolicies as a cluster's network applies them: may this pod open a connection to that one?

Kubernetes' own rules (NetworkPolicy v1): a pod that no policy selects for a direction is open in it; one that is
selected may what any of the rules allows; a connection needs both ends' consent. Networks differ in one thing: to some
an `ipBlock` means pods too (Calico), to others only what is not a pod (Cilium).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Policy = Mapping[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod in the platform's namespace, or in another one."""

    labels: Mapping[str, str]
    ports: Mapping[str, int] = field(default_factory=dict)
    address: str = "10.1.2.3"
    namespace: Mapping[str, str] | None = None
    """Labels of its namespace, where that is another one."""


@dataclass(frozen=True)
class Outside:
    """An address that is not a pod's."""

    address: str


@dataclass(frozen=True)
class Network:
    """Policies of one namespace, applied by a network of one of the two kinds."""

    policies: tuple[Policy, ...]
    blocks_mean_pods: bool

    def allows(self, source: Pod | Outside, target: Pod | Outside, port: int, protocol: str = "TCP") -> bool:
        """Whether a connection from `source` to that port of `target` is let through."""
        leaves = self._direction("Egress", source, target, target, port, protocol)
        return leaves and self._direction("Ingress", target, source, target, port, protocol)

    def _direction(
        self,
        kind: str,
        at: Pod | Outside,
        peer: Pod | Outside,
        target: Pod | Outside,
        port: int,
        protocol: str,
    ) -> bool:
        if isinstance(at, Outside) or at.namespace is not None:
            return True
        selecting = [
            policy["spec"]
            for policy in self.policies
            if kind in policy["spec"]["policyTypes"] and _selects(policy["spec"]["podSelector"], at.labels)
        ]
        side = "to" if kind == "Egress" else "from"
        rules = [rule for spec in selecting for rule in spec.get(kind.lower()) or []]
        return not selecting or any(
            _port_fits(rule.get("ports"), target, port, protocol) and self._peer_fits(rule.get(side), peer)
            for rule in rules
        )

    def _peer_fits(self, peers: Iterable[Mapping[str, Any]] | None, peer: Pod | Outside) -> bool:
        return not peers or any(self._one_fits(one, peer) for one in peers)

    def _one_fits(self, wanted: Mapping[str, Any], peer: Pod | Outside) -> bool:
        if "ipBlock" in wanted:
            return (isinstance(peer, Outside) or self.blocks_mean_pods) and _in_block(
                wanted["ipBlock"], peer.address
            )
        if isinstance(peer, Outside):
            return False
        if "namespaceSelector" in wanted:
            here = {"kubernetes.io/metadata.name": "daskhub"}
            if not _selects(wanted["namespaceSelector"], peer.namespace or here):
                return False
        elif peer.namespace is not None:
            return False
        return _selects(wanted.get("podSelector") or {}, peer.labels)


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    fixed = selector.get("matchLabels") or {}
    if any(labels.get(name) != value for name, value in fixed.items()):
        return False
    for one in selector.get("matchExpressions") or []:
        assert one["operator"] == "In", "the matcher knows no other operator"
        if labels.get(one["key"]) not in one["values"]:
            return False
    return True


def _port_fits(
    ports: Iterable[Mapping[str, Any]] | None, target: Pod | Outside, port: int, protocol: str
) -> bool:
    if not ports:
        return True
    names = target.ports if isinstance(target, Pod) else {}
    return any(
        one.get("protocol", "TCP") == protocol
        and (one.get("port") is None or names.get(one["port"], one["port"]) == port)
        for one in ports
    )


def _in_block(block: Mapping[str, Any], address: str) -> bool:
    found = ipaddress.ip_address(address)
    excepted = any(found in ipaddress.ip_network(cidr) for cidr in block.get("except") or [])
    return found in ipaddress.ip_network(block["cidr"]) and not excepted
