"""What explain-login says to each of the known test vectors, and to any claims at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidehub.login.explanation import Explanation, as_dict, explain, lines
from tidehub.site.model import Site
from tidehub.site.reading.load import load_text

E = "urn:mace:egi.eu:group:"
MEMBER = E + "vo.pangeo.eu:role=member"
TEXT = f"""
site: {{name: Testing}}
login:
  provider: demo
  scopes: [openid, profile, entitlements, eduperson_assurance]
  allow: {{groups: ["{MEMBER}", "{E}vo.example.eu:cloud:*"], users: [guest]}}
  admins: {{groups: ["{E}vo.pangeo.eu:role=admin"], users: [boss]}}
  block: [mallory, "bad@egi.eu"]
  names: {{"second@egi.eu": ann2}}
  groups:
    - {{group: "{E}vo.pangeo.eu:role=power", profiles: [large], dask: {{cluster: {{max_workers: 9}}}}}}
notebooks: {{profiles: [{{name: Main, default: true}}, {{name: Large}}]}}
"""


def site(changes: str = "") -> Site:
    return load_text(TEXT + changes, "tidehub.yaml").site


SITE = site()


def explained(held: Any, **more: Any) -> Explanation:
    claims = {"sub": "1@egi.eu", "preferred_username": "ann", "entitlements": held, **more}
    return explain(claims, SITE)


UNDERSTOOD = [
    # (what is held, how it is understood, admitted, what else is said)
    (MEMBER + "#aai.egi.eu", MEMBER, True, "meets login.allow.groups[0]"),
    (E + "vo.pangeo.eu#aai.egi.eu", E + "vo.pangeo.eu", False, "it states no role"),
    (E + "vo.pangeo.eu", E + "vo.pangeo.eu", False, "it states no role"),
    (MEMBER, MEMBER, True, "meets login.allow.groups[0]"),
    (
        E + "vo.example.eu:cloud:eu-west:role=operator#aai.egi.eu",
        E + "vo.example.eu:cloud:eu-west:role=operator",
        True,
        "meets login.allow.groups[1]",
    ),
    ("URN:MACE:EGI.EU:group:vo.pangeo.eu:role=member#x", MEMBER, True, "meets login.allow.groups[0]"),
    (
        E + "VO.pangeo.eu:role=member#a",
        E + "VO.pangeo.eu:role=member",
        False,
        "capital letters make another group",
    ),
    (
        E + "my%20group:role=Site%20Admin#a",
        E + "my%20group:role=Site%20Admin",
        False,
        "not used by this site",
    ),
    (E + "a%2fb#a", E + "a%2Fb", False, "not used by this site"),
    (
        E + "vo.pangeo.eu%3Arole=member#a",
        E + "vo.pangeo.eu%3Arole=member",
        False,
        "percent-encoded characters",
    ),
    (
        "urn:geant:h-df.de:group:aai-admin:role=member#login.helmholtz.de",
        "urn:geant:h-df.de:group:aai-admin:role=member",
        False,
        "not used by this site",
    ),
    (
        "urn:geant:eosc-federation.eu:group:pp-0190abc",
        "urn:geant:eosc-federation.eu:group:pp-0190abc",
        False,
        "not used by this site",
    ),
    (
        "urn:mace:egi.eu:sub:ns:group:vo.pangeo.eu:role=member#x",
        "urn:mace:egi.eu:sub:ns:group:vo.pangeo.eu:role=member",
        False,
        "its namespace is mace:egi.eu:sub:ns",
    ),
    (
        E + "vo.pangeo.eu:Role=member#a",
        E + "vo.pangeo.eu:Role=member",
        False,
        "'role=' is written in lower case",
    ),
    ("urn:mace:egi.eu?+r?=q:group:vo.pangeo.eu:role=member#a", MEMBER, True, "meets login.allow.groups[0]"),
    (
        E + "vo.pangeo.eu:sub:role=member",
        E + "vo.pangeo.eu:sub:role=member",
        False,
        "it is about a subgroup",
    ),
    (
        E + "vo.pangeo.eu:role=vm_operator",
        E + "vo.pangeo.eu:role=vm_operator",
        False,
        "its role is vm_operator",
    ),
    (E + "vo.pangeo.eu.evil:role=member", E + "vo.pangeo.eu.evil:role=member", False, "longer name"),
]

SKIPPED = [
    ("urn:mace:egi.eu:GROUP:vo.pangeo.eu:role=member#x", "':group:' is written in lower case"),
    (E + "#a", "one of its parts is empty"),
    (E + "g:#a", "one of its parts is empty"),
    (E + ":g#a", "one of its parts is empty"),
    (E + "vo.pangeo.eu:role=#a", "its role is empty"),
    (E + "vo.pangeo.eu:role=member:role=b#a", "its role is not the last part"),
    (E + "vo.pangeo.eu:role=member:sub#a", "its role is not the last part"),
    (E + "role=member#a", "it has a role, but no group"),
    (MEMBER + "#", "nothing stands after its #"),
    (MEMBER + "#a#b", "more than one #"),
    ("urn:mace:group:g", "it does not follow AARC-G069"),
    ("urn:mace:egi.eu:res:rcauth#aai.egi.eu", "it is a capability"),
    ("urn:mace:egi.eu:goc.egi.eu:100453G0:SITE:Site+Manager@egi.eu", "it names no group"),
    (" " + MEMBER, "it does not start with urn:"),
    ("mace:egi.eu:group:vo.pangeo.eu", "it does not start with urn:"),
    (None, "it is not text"),
    (17, "it is not text"),
    ({"urn": MEMBER}, "it is not text"),
]


@pytest.mark.parametrize(("held", "urn", "admitted", "said"), UNDERSTOOD)
@pytest.mark.parametrize("bare", [True, False], ids=["text", "list"])
def test_each_known_vector_is_explained(held: str, urn: str, admitted: bool, said: str, bare: bool) -> None:
    found = explained(held if bare else [held])
    assert list(found.meets) == [urn]
    assert found.decision.admitted is admitted
    text = "\n".join(lines(found))
    assert said in text
    assert urn in text
    assert text.startswith("ADMITTED: " if admitted else "REFUSED: ")
    if not admitted:
        assert "vo.pangeo.eu (role member)" in found.decision.reason


@pytest.mark.parametrize(("held", "reason"), SKIPPED)
def test_each_malformed_vector_is_skipped_with_its_reason(held: object, reason: str) -> None:
    found = explained([held])
    assert not found.decision.admitted
    assert not found.meets
    assert reason in found.decision.skipped[0].reason
    assert reason in "\n".join(lines(found))
    beside = explained([held, MEMBER])
    assert beside.decision.admitted
    assert reason in "\n".join(lines(beside))


@pytest.mark.parametrize("claim", [None, [], ""])
def test_no_memberships_at_all(claim: object) -> None:
    text = "\n".join(lines(explained(claim)))
    assert text.startswith("REFUSED")
    assert "sent no memberships at all" in text or "could not be understood" in text


def test_a_member_has_profiles_and_limits_that_are_said() -> None:
    text = "\n".join(lines(explained([MEMBER, E + "vo.pangeo.eu:role=power"])))
    assert "login.groups[0].profiles" in text
    assert "dask.cluster.max_workers  9, by login.groups[0]" in text
    plain = "\n".join(lines(explained([MEMBER])))
    assert "large  not shown to them, and refused" in plain
    assert "Beyond everybody" not in plain


def test_who_is_refused_is_not_told_of_profiles() -> None:
    found = explained([E + "vo.pangeo.eu:role=power"])
    assert found.user is None
    assert "Profiles" not in "\n".join(lines(found))
    assert as_dict(found)["profiles"] == []


@pytest.mark.parametrize(
    ("claims", "rule", "admin"),
    [
        ({"preferred_username": "boss"}, "login.admins.users", True),
        ({"entitlements": [E + "vo.pangeo.eu:role=admin"]}, "login.admins.groups", True),
        ({"preferred_username": "Guest"}, "login.allow.users", False),
        ({"entitlements": [MEMBER]}, "login.allow.groups", False),
    ],
)
def test_the_rule_and_the_administrator(claims: dict[str, Any], rule: str, admin: bool) -> None:
    found = explain({"sub": "1", "preferred_username": "ann", **claims}, SITE)
    assert (found.decision.rule, found.decision.admin) == (rule, admin)
    assert f"administrator  {'yes' if admin else 'no'}" in "\n".join(lines(found))


@pytest.mark.parametrize("claims", [{"preferred_username": "Mallory"}, {"sub": "bad@egi.eu"}])
def test_the_blocked_are_refused_whatever_they_hold(claims: dict[str, Any]) -> None:
    found = explain({"sub": "1", "preferred_username": "ann", "entitlements": [MEMBER], **claims}, SITE)
    assert not found.decision.admitted
    assert "is blocked" in found.decision.reason


def test_the_hubs_name_counts_and_not_the_presented_one() -> None:
    renamed = {"sub": "second@egi.eu", "preferred_username": "boss"}
    found = explain(renamed, SITE)
    assert not found.decision.admitted
    assert "ann2 (the provider calls them boss, sub second@egi.eu)" in "\n".join(lines(found))
    assert not explain({"sub": "9", "preferred_username": "boss"}, SITE, name="eve").decision.admitted
    assert explain({"sub": "9", "preferred_username": "eve"}, SITE, name="boss").decision.admin


def test_assurance_is_said() -> None:
    medium = "https://refeds.org/assurance/IAP/medium"
    strict = load_text(TEXT.replace("users: [guest]", f"assurance: ['{medium}']"), "t").site
    claims = {"sub": "1", "preferred_username": "ann", "entitlements": MEMBER}
    refused = "\n".join(lines(explain(claims, strict)))
    assert "none sent (eduperson_assurance)" in refused
    assert f"wanted: one of {medium}" in refused
    held = "\n".join(lines(explain({**claims, "eduperson_assurance": medium}, strict)))
    assert held.startswith("ADMITTED")


def test_a_strangers_text_does_not_reach_the_terminal_as_it_is() -> None:
    found = explain({"sub": "\x1b[31m\n", "preferred_username": "a\x07", "entitlements": ["\x1b]0;x"]}, SITE)
    assert all(line.isprintable() for line in lines(found))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(MEMBER),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
NAMES = ["sub", "preferred_username", "entitlements", "eduperson_entitlement", "eduperson_assurance"]


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, JSON)))
def test_any_claims_are_explained(claims: dict[str, Any]) -> None:
    found = explain(claims, SITE)
    said = lines(found)
    assert all("\n" not in line and line.isprintable() for line in said)
    told = json.loads(json.dumps(as_dict(found)))
    assert told["admitted"] is found.decision.admitted
    assert (told["rule"] is not None) >= found.decision.admitted
