"""What network policies mean in the words of iptables and ipset. Pure: objects in, rules out.

A pod that a policy selects for a direction has a chain of its own, which returns what a rule lets through and rejects
the rest. FORWARD leads to it, where kube-proxy has translated addresses of services into those of pods. So the node
itself is always let in and reached, as by most network plugins: its packets do not pass FORWARD.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Object = Mapping[str, Any]
ENTRY = "TIDEHUB-POLICIES"
"""The chain that FORWARD goes through."""
_DIRECTIONS = (("Ingress", "from", "-s", "src", "-d"), ("Egress", "to", "-d", "dst", "-s"))


@dataclass
class Rules:
    """Sets of addresses, chains with their rules, and the rules that lead to the chains."""

    sets: dict[str, list[str]] = field(default_factory=dict)
    chains: dict[str, list[str]] = field(default_factory=dict)
    jumps: list[str] = field(default_factory=list)

    def for_ipset(self) -> str:
        """Input of `ipset restore -exist`."""
        lines = []
        for name, addresses in self.sets.items():
            lines += [f"create {name} hash:ip", f"flush {name}", *(f"add {name} {one}" for one in addresses)]
        return "".join(f"{line}\n" for line in lines)

    def for_iptables(self, known: Iterable[str]) -> str:
        """Input of `iptables-restore --noflush`; chains of `known` that are not used any more are emptied."""
        lines = ["*filter", f":{ENTRY} - [0:0]", *(f":{name} - [0:0]" for name in {*self.chains, *known})]
        lines.append(f"-A {ENTRY} -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN")
        lines += [line for chain in self.chains.values() for line in chain]
        return "\n".join([*lines, *self.jumps, "COMMIT", ""])


def rules(pods: Sequence[Object], policies: Sequence[Object], namespaces: Sequence[Object]) -> Rules:
    """The rules for `pods`, of which those count that have an address of their own and have not ended."""
    living = [pod for pod in pods if _lives(pod)]
    labels_of = {one["metadata"]["name"]: one["metadata"].get("labels") or {} for one in namespaces}
    found = Rules()
    for pod in living:
        address, metadata = pod["status"]["podIP"], pod["metadata"]
        for direction, peers_key, other, _, own in _DIRECTIONS:
            selecting = [one for one in policies if _selects(one, metadata, direction)]
            if not selecting:
                continue
            chain = f"TH-{direction[0]}-{_short(metadata['namespace'], metadata['name'], address)}"
            lines = []
            for policy in selecting:
                for rule in policy["spec"].get(direction.lower()) or []:
                    peers = rule.get(peers_key)
                    ends = (
                        [""]
                        if not peers
                        else [_end(found, one, policy, living, labels_of, other) for one in peers]
                    )
                    lines += [
                        f"-A {chain}{end}{port} -j RETURN"
                        for end in ends
                        for port in _ports(rule, living if direction == "Egress" else [pod])
                    ]
            lines.append(f"-A {chain} -j REJECT --reject-with icmp-admin-prohibited")
            found.chains[chain] = lines
            found.jumps.append(f"-A {ENTRY} {own} {address}/32 -j {chain}")
    return found


def matches(selector: Object | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes these labels; an empty one takes all."""
    selector = selector or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for one in selector.get("matchExpressions") or []:
        value, values = labels.get(one["key"]), one.get("values") or []
        good = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not good[one["operator"]]:
            return False
    return True


def _lives(pod: Object) -> bool:
    status = pod.get("status", {})
    return (
        bool(status.get("podIP"))
        and not pod["spec"].get("hostNetwork")
        and status["phase"] in ("Pending", "Running")
    )


def _selects(policy: Object, pod: Object, direction: str) -> bool:
    spec = policy["spec"]
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    same = policy["metadata"]["namespace"] == pod["namespace"]
    return direction in types and same and matches(spec.get("podSelector"), pod.get("labels") or {})


def _end(
    found: Rules,
    peer: Object,
    policy: Object,
    pods: Sequence[Object],
    labels_of: Mapping[str, Mapping[str, str]],
    other: str,
) -> str:
    """The match of one peer, whose set is added to `found`."""
    side = "src" if other == "-s" else "dst"
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        without = [ipaddress.ip_network(one) for one in block.get("except") or []]
        cut = "".join(f" -m iprange ! --{side}-range {one[0]}-{one[-1]}" for one in without)
        return f" {other} {block['cidr']}{cut}"
    namespace = policy["metadata"]["namespace"]
    name = f"th-{_short(peer, namespace)}"
    found.sets[name] = sorted(
        pod["status"]["podIP"]
        for pod in pods
        if matches(peer.get("podSelector"), pod["metadata"].get("labels") or {})
        and (
            matches(peer["namespaceSelector"], labels_of.get(pod["metadata"]["namespace"], {}))
            if "namespaceSelector" in peer
            else pod["metadata"]["namespace"] == namespace
        )
    )
    return f" -m set --match-set {name} {side}"


def _ports(rule: Object, pods: Sequence[Object]) -> list[str]:
    """The matches of a rule's ports; one by name is every port of that name that `pods` have."""
    if not rule.get("ports"):
        return [""]
    found = []
    for port in rule["ports"]:
        protocol, wanted = port.get("protocol", "TCP").lower(), port.get("port")
        numbers = _named(pods, wanted) if isinstance(wanted, str) else [wanted]
        for number in numbers:
            last = f":{port['endPort']}" if port.get("endPort") else ""
            found.append(f" -p {protocol}" + (f" --dport {number}{last}" if number else ""))
    return found


def _named(pods: Sequence[Object], name: str) -> list[int]:
    containers = [one for pod in pods for one in pod["spec"]["containers"]]
    return sorted(
        {
            port["containerPort"]
            for one in containers
            for port in one.get("ports") or []
            if port.get("name") == name
        }
    )


def _short(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
