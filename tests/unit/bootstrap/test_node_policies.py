"""What network policies mean, without a node: who is selected, which peers and ports are let through."""

from __future__ import annotations

from typing import Any

import node_policies
import pytest
from node_policies import ENTRY, rules

SPACES = [
    {"metadata": {"name": "site", "labels": {"kubernetes.io/metadata.name": "site"}}},
    {"metadata": {"name": "ingress", "labels": {"kubernetes.io/metadata.name": "ingress"}}},
]


def pod(name: str, address: str, namespace: str = "site", **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8000}]}]},
        "status": {"phase": "Running", "podIP": address},
    }


def policy(name: str, selector: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "site"},
        "spec": {"podSelector": selector, "policyTypes": ["Ingress"], **spec},
    }


HUB = pod("hub", "10.244.0.2", component="hub")
USER = pod("user", "10.244.0.3", component="singleuser")
FRONT = pod("front", "10.244.0.4", "ingress", component="front")
PODS = [HUB, USER, FRONT]
OF_HUB = {"matchLabels": {"component": "hub"}}


def allowed(found: node_policies.Rules) -> list[str]:
    """The rules that let something through, without the chain's name."""
    lines = [line for chain in found.chains.values() for line in chain if line.endswith("RETURN")]
    return [line.split(maxsplit=2)[2].removesuffix("-j RETURN").strip() for line in lines]


def test_a_pod_without_a_policy_has_no_rules() -> None:
    assert rules(PODS, [], SPACES) == node_policies.Rules()


def test_a_selected_pod_gets_nothing_that_no_rule_names() -> None:
    found = rules(PODS, [policy("closed", OF_HUB)], SPACES)
    ((chain, lines),) = found.chains.items()
    assert lines == [f"-A {chain} -j REJECT --reject-with icmp-admin-prohibited"]
    assert found.jumps == [f"-A {ENTRY} -d 10.244.0.2/32 -j {chain}"]


def test_peers_are_sets_of_the_addresses_that_their_selectors_take() -> None:
    from_users = {"from": [{"podSelector": {"matchLabels": {"component": "singleuser"}}}]}
    found = rules(PODS, [policy("users", OF_HUB, ingress=[from_users])], SPACES)
    assert list(found.sets.values()) == [["10.244.0.3"]]
    from_front = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}
    found = rules(PODS, [policy("front", OF_HUB, ingress=[{"from": [from_front]}])], SPACES)
    assert list(found.sets.values()) == [["10.244.0.4"]]


def test_a_pod_selector_alone_means_the_policys_own_namespace() -> None:
    everyone = {"from": [{"podSelector": {}}]}
    found = rules(PODS, [policy("own", OF_HUB, ingress=[everyone])], SPACES)
    assert list(found.sets.values()) == [["10.244.0.2", "10.244.0.3"]]


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ([], [""]),
        ([{"port": 8081}], ["-p tcp --dport 8081"]),
        ([{"protocol": "UDP", "port": 53}, {"port": 53}], ["-p udp --dport 53", "-p tcp --dport 53"]),
        ([{"port": "http"}], ["-p tcp --dport 8000"]),
        ([{"port": "no-such-name"}], []),
        ([{"port": 8000, "endPort": 8010}], ["-p tcp --dport 8000:8010"]),
    ],
)
def test_ports(ports: list[dict[str, Any]], expected: list[str]) -> None:
    found = rules(PODS, [policy("ports", OF_HUB, ingress=[{"ports": ports}])], SPACES)
    assert allowed(found) == expected


def test_a_block_of_addresses_without_some_of_them() -> None:
    block = {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "169.254.169.254/32"]}}
    out = policy("out", OF_HUB, policyTypes=["Egress"], egress=[{"to": [block]}])
    (rule,) = allowed(rules(PODS, [out], SPACES))
    assert rule.split(" -m ") == [
        "-d 0.0.0.0/0",
        "iprange ! --dst-range 10.0.0.0-10.255.255.255",
        "iprange ! --dst-range 169.254.169.254-169.254.169.254",
    ]


@pytest.mark.parametrize(
    ("operator", "values", "taken"),
    [
        ("In", ["hub"], True),
        ("In", ["other"], False),
        ("NotIn", ["hub"], False),
        ("NotIn", ["other"], True),
        ("Exists", None, True),
        ("DoesNotExist", None, False),
    ],
)
def test_expressions(operator: str, values: list[str] | None, taken: bool) -> None:
    expression = {"key": "component", "operator": operator, "values": values}
    assert node_policies.matches({"matchExpressions": [expression]}, {"component": "hub"}) is taken


@pytest.mark.parametrize("change", [{"phase": "Succeeded"}, {"podIP": ""}])
def test_a_pod_without_an_address_or_at_its_end_has_no_rules(change: dict[str, str]) -> None:
    ended = {**HUB, "status": {**HUB["status"], **change}}
    assert rules([ended], [policy("closed", {})], SPACES) == node_policies.Rules()


def test_chains_of_pods_that_went_are_emptied() -> None:
    before = rules(PODS, [policy("closed", OF_HUB)], SPACES)
    (old,) = before.chains
    text = rules([USER], [policy("closed", OF_HUB)], SPACES).for_iptables(before.chains)
    assert f":{old} - [0:0]" in text and f"-j {old}" not in text
