"""The rule's own grammar, held against the reference library, and what never admits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aarc_entitlement import G069, ParseError
from hypothesis import given
from hypothesis import strategies as st

from tidehub.login import rule
from tidehub.login.admission import rule_of
from tidehub.login.rule import Entitlement, Requirement, decide, look_alikes, parse, parse_requirement
from tidehub.site import builtin_site

E = "urn:mace:egi.eu:group:"
VO = E + "vo.pangeo.eu"
MEDIUM = "https://refeds.org/assurance/IAP/medium"
HIGH = "https://refeds.org/assurance/IAP/high"


def rule_with(*, users: Any = (), groups: Any = (), admins: Any = (), **allow: Any) -> dict[str, Any]:
    return {
        "username_claim": "preferred_username",
        "allow": {"users": users, "groups": groups, **allow},
        "admins": {"groups": admins},
    }


def claims(*held: object, assurance: object = None, name: object = "ann") -> dict[str, Any]:
    return {"preferred_username": name, "entitlements": list(held), "eduperson_assurance": assurance}


# --- against the library that others use -------------------------------------------------------

PARTS = st.sampled_from(
    ["a", "b", "vo.pangeo.eu", "A", "role=", "role=a", "Role=a", "group", "", "%3A", "%3a", "x?y", "*", "a b"]
)
HEADS = st.sampled_from(
    [
        "urn:mace:egi.eu",
        "URN:Mace:EGI.eu",
        "urn:mace:egi.eu:sub",
        "urn:mace",
        "urn:geant:x?+r?=q",
        "mace:egi.eu",
        "",
    ]
)
TAILS = st.sampled_from(["", "#", "#aai.egi.eu", "#a#b"])
URNS = st.builds(
    lambda head, parts, tail: ":".join([head, "group", *parts]) + tail,
    HEADS,
    st.lists(PARTS, max_size=5),
    TAILS,
)


def of_the_library(text: str) -> Entitlement:
    parts = G069(text)
    namespace = ":".join((parts.namespace_id, parts.delegated_namespace, *parts.subnamespaces))
    return Entitlement(namespace, parts.group, tuple(parts.subgroups), parts.role)


@given(URNS | st.text(max_size=40).map(lambda text: E + text))
def test_what_is_understood_is_understood_as_the_reference_library_does(text: str) -> None:
    try:
        ours = parse(text)
    except ValueError:
        return
    assert ours == of_the_library(text)


LAX = [
    E + "g:role=#a",
    E + "g:role=a:role=b#a",
    E + "g:role=a:sub#a",
    E + "role=member#a",
    E + "g:role=a#a#b",
    E + "my group",
    E + "evil:group:vo.pangeo.eu:role=member",
]


@pytest.mark.parametrize("text", LAX)
def test_ours_is_stricter_where_the_library_is_lax(text: str) -> None:
    of_the_library(text)
    with pytest.raises(ValueError):
        parse(text)


@given(URNS)
def test_what_is_refused_is_malformed_for_the_library_too_or_ambiguous(text: str) -> None:
    try:
        parse(text)
    except ValueError as error:
        reasons = ("role", "more than one #", "percent-encoded", "inside the group", "twice", "empty")
        if not any(reason in str(error) for reason in reasons):
            with pytest.raises(ParseError):
                of_the_library(text)


SIMPLE = st.builds(
    Entitlement,
    st.sampled_from(["mace:egi.eu", "mace:evil.eu"]),
    st.sampled_from(["vo", "vox", "VO"]),
    st.lists(st.sampled_from(["a", "b"]), max_size=2).map(tuple),
    st.sampled_from([None, "member", "admin"]),
)


@given(SIMPLE, SIMPLE)
def test_satisfying_a_rule_without_star_is_what_the_library_calls_so(
    held: Entitlement, required: Entitlement
) -> None:
    theirs = G069(held.canonical).satisfies(G069(required.canonical))
    assert parse_requirement(required.canonical).met_by(held) is theirs


# --- what the rule's groups mean ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "held", "met"),
    [
        ("vo:*", "vo", True),
        ("vo:*", "vo:role=member", True),
        ("vo:*", "vo:sub:deep:role=admin", True),
        ("vo:*", "vox", False),
        ("vo:*", "vo.evil.eu:role=member", False),
        ("vo:*", "VO", False),
        ("vo:*", "v", False),
        ("vo:sub:*", "vo:sub:x", True),
        ("vo:sub:*", "vo:subway", False),
        ("vo:sub:*", "vo:role=sub", False),
        ("vo:*:role=admin", "vo:role=admin", True),
        ("vo:*:role=admin", "vo:sub:role=admin", True),
        ("vo:*:role=admin", "vo:sub:role=member", False),
        ("vo:*:role=admin", "vo:sub", False),
        ("vo:*:role=admin", "vox:role=admin", False),
        ("*", "anything:role=x", True),
        ("*:role=x", "anything:sub:role=x", True),
        ("*:role=x", "anything:role=y", False),
        ("vo:role=member", "vo:sub:role=member", False),
        ("vo", "vo:sub:role=member", True),
    ],
)
def test_prefixes_compare_whole_parts(wanted: str, held: str, met: bool) -> None:
    assert parse_requirement(E + wanted).met_by(parse(E + held)) is met


@pytest.mark.parametrize("wanted", ["*", "vo:*", "vo:*:role=admin"])
@pytest.mark.parametrize("namespace", ["urn:mace:egi.eu:sub", "urn:mace:evil.eu", "urn:geant:egi.eu"])
def test_a_prefix_holds_within_its_namespace(wanted: str, namespace: str) -> None:
    assert not parse_requirement(E + wanted).met_by(parse(f"{namespace}:group:vo:role=admin"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("vo*", "whole parts"),
        ("vo.*:role=member", "whole parts"),
        ("vo:role=*", "whole parts"),
        ("*:vo", "nothing but a role"),
        ("vo:*:sub", "nothing but a role"),
        ("vo:*:*", "nothing but a role"),
        ("vo:role=a:*", "not the last part|nothing but a role|its role"),
        ("vo:*:role=", "role is empty"),
        ("", "empty"),
    ],
)
def test_a_star_stands_for_whole_parts_at_the_end(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_requirement(E + text)


def test_a_star_in_the_namespace_is_refused() -> None:
    with pytest.raises(ValueError, match="whole parts"):
        parse_requirement("urn:mace:*:group:vo")


def test_a_star_that_a_user_holds_is_a_name_and_no_wildcard() -> None:
    held = parse(E + "*")
    assert not parse_requirement(VO).met_by(held)
    assert not decide(claims(E + "*", E + "*:role=member"), rule_with(groups=[VO])).admitted


@given(SIMPLE, st.booleans())
def test_a_requirement_reads_back(required: Entitlement, below: bool) -> None:
    known = Requirement(required.namespace, required.path, below or required.role is None, required.role)
    assert parse_requirement(known.canonical) == known
    assert known.short


def test_requirements_in_words() -> None:
    words = {
        wanted: parse_requirement(E + wanted).short for wanted in ("vo:*", "vo:*:role=a", "*", "vo:role=a")
    }
    assert words == {
        "vo:*": "vo",
        "vo:*:role=a": "vo or a subgroup (role a)",
        "*": "any group of mace:egi.eu",
        "vo:role=a": "vo (role a)",
    }


# --- assurance --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "admitted"),
    [
        (MEDIUM, True),
        ([MEDIUM], True),
        (["https://refeds.org/assurance/IAP/low", HIGH], True),
        (None, False),
        ("", False),
        ([], False),
        ("https://refeds.org/assurance/IAP/low", False),
        (MEDIUM.upper(), False),
        (f" {MEDIUM}", False),
        (f"{MEDIUM} {HIGH}", False),
        (f"{MEDIUM}/x", False),
        ({MEDIUM: True}, False),
        ([[MEDIUM]], False),
        (list(MEDIUM), False),
        (7, False),
        (True, False),
    ],
)
def test_one_of_the_levels_is_needed_beside_membership(sent: object, admitted: bool) -> None:
    held = claims(f"{VO}:role=member", assurance=sent)
    decision = decide(held, rule_with(groups=[VO], assurance=[MEDIUM, HIGH]))
    assert decision.admitted is admitted
    if not admitted:
        assert MEDIUM in decision.reason
        assert "does not hold that membership" not in decision.reason


def test_assurance_alone_admits_nobody_and_both_lacks_are_said() -> None:
    rule_of_both = rule_with(groups=[VO], assurance=[MEDIUM])
    assert not decide(claims(assurance=MEDIUM), rule_of_both).admitted
    refused = decide(claims(assurance=["https://aai.egi.eu/LoA#Low"]), rule_of_both).reason
    assert "vo.pangeo.eu" in refused
    assert MEDIUM in refused
    assert "https://aai.egi.eu/LoA#Low" in refused


def test_administrators_need_the_assurance_too() -> None:
    boss = rule_with(admins=[f"{VO}:role=admin"], assurance=[MEDIUM])
    weak = decide(claims(f"{VO}:role=admin"), boss)
    assert (weak.admitted, weak.admin) == (False, False)
    strong = decide(claims(f"{VO}:role=admin", assurance=MEDIUM), boss)
    assert (strong.admitted, strong.admin, strong.rule) == (True, True, "login.admins.groups")
    assert strong.assurance == (MEDIUM,)


# --- what never admits, and what is remarked ---------------------------------------------------


@pytest.mark.parametrize(
    ("held", "why"),
    [
        (E + "VO.pangeo.eu:role=member", "capital letters"),
        (E + "vo.pangeo.eu.evil.org:role=member", "longer name"),
        (E + "vo%2Epangeo.eu:role=member", "percent-encoded"),
        (VO + "%3Arole=member", "percent-encoded"),
        ("urn:mace:evil.eu:group:vo.pangeo.eu:role=member", "its namespace is mace:evil.eu"),
        (VO + ":role=vm_operator", "its role is vm_operator"),
        (VO, "states no role"),
        (VO + ":sub:role=member", "about a subgroup"),
        (E + "vo.other.eu:role=member", None),
    ],
)
def test_look_alikes_are_remarked(held: str, why: str | None) -> None:
    decision = decide(claims(held), rule_with(groups=[VO + ":role=member"]))
    assert not decision.admitted
    remarks = [remark for remark in decision.remarks if " is not " in remark]
    assert (why is None and not remarks) or why in remarks[0]


def test_what_meets_the_rule_is_no_look_alike_of_it() -> None:
    required = [parse_requirement(VO + ":role=member"), parse_requirement(VO + ":role=admin")]
    assert look_alikes([parse(VO + ":role=admin")], required) == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | URNS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
CLAIMS = JSON | st.fixed_dictionaries(
    {},
    optional={
        "preferred_username": JSON | st.just("ann"),
        "entitlements": JSON,
        "eduperson_entitlement": JSON,
        "eduperson_assurance": JSON,
    },
)
MEMBER = rule_with(groups=[VO + ":role=member", VO + ":admins:*:role=x"], admins=[VO + ":role=admin"])


@given(CLAIMS)
def test_no_claims_make_the_decision_fail_and_only_a_stated_membership_admits(held: Any) -> None:
    decision = decide(held, MEMBER)
    assert decision.reason
    if decision.admitted:
        said = json.dumps(held)
        assert "vo.pangeo.eu" in said


@given(CLAIMS, JSON)
def test_no_malformed_rule_admits(held: Any, junk: Any) -> None:
    broken = rule_with(users=(), groups=junk, everyone=junk if junk is not True else 1)
    assert not decide(held, {**broken, "admins": {}}).admitted or "group" in json.dumps(junk)


def test_only_true_itself_is_everyone() -> None:
    assert decide(claims(), rule_with(everyone=True)).admitted
    for almost in (1, "true", "false", [True], {"yes": True}):
        assert not decide(claims(), rule_with(everyone=almost)).admitted


def test_a_rule_survives_json() -> None:
    plain = rule_of(builtin_site().login)
    assert json.loads(json.dumps(plain)) == plain


def test_the_module_runs_where_nothing_of_ours_is_installed() -> None:
    # As in the upstream hub image, where the text of the module is part of the configuration.
    source = Path(rule.__file__).read_text(encoding="utf-8")
    program = (
        "import sys, json\nspace = {}\nexec(compile(sys.stdin.read(), 'rule', 'exec'), space)\n"
        f"made = space['decide']({claims(VO + ':role=member')!r}, {rule_with(groups=[VO])!r})\n"
        "print(json.dumps([made.admitted, made.rule, [m for m in sys.modules if 'tidehub' in m or 'pydantic' in m]]))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], input=source, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, "login.allow.groups", []]


def test_notes_for_the_log_are_few_and_printable() -> None:
    from tidehub.login.authenticator import notes

    junk = [f"junk {index}\n" for index in range(30)]
    said = notes(decide(claims(VO + ":role=member", E + "VO.pangeo.eu", *junk), rule_with(groups=[VO])))
    assert said[0] == "skipped 'junk 0?': it does not start with urn:"
    assert said[5] == "and 25 more"
    assert "capital letters" in said[6]
    assert len(said) == 7
    assert all(line.isprintable() for line in said)
    assert notes(decide(claims(VO + ":role=member"), rule_with(groups=[VO]))) == []
