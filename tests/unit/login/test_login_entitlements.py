"""The vectors of AARC-G002/G069 that the reference library was run on, and where ours is stricter than it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidehub.login.entitlements import LONGEST, MOST, Entitlement, parse, read
from tidehub.login.rule import parse_requirement

E = "urn:mace:egi.eu:group:"
EGI = "mace:egi.eu"

UNDERSTOOD = [
    (E + "vo.pangeo.eu:role=member#aai.egi.eu", Entitlement(EGI, "vo.pangeo.eu", (), "member")),
    (E + "vo.pangeo.eu#aai.egi.eu", Entitlement(EGI, "vo.pangeo.eu")),
    (E + "vo.pangeo.eu", Entitlement(EGI, "vo.pangeo.eu")),
    (E + "vo.pangeo.eu:role=member", Entitlement(EGI, "vo.pangeo.eu", (), "member")),
    (
        E + "vo.example.eu:cloud:eu-west:role=operator#aai.egi.eu",
        Entitlement(EGI, "vo.example.eu", ("cloud", "eu-west"), "operator"),
    ),
    ("URN:MACE:EGI.EU:group:vo.pangeo.eu:role=member#x", Entitlement(EGI, "vo.pangeo.eu", (), "member")),
    (E + "VO.pangeo.eu:role=member#a", Entitlement(EGI, "VO.pangeo.eu", (), "member")),
    (E + "my%20group:role=Site%20Admin#a", Entitlement(EGI, "my%20group", (), "Site%20Admin")),
    (E + "a%2fb#a", Entitlement(EGI, "a%2Fb")),
    (E + "a%3Ab#a", Entitlement(EGI, "a%3Ab")),
    (
        "urn:geant:h-df.de:group:aai-admin:role=member#login.helmholtz.de",
        Entitlement("geant:h-df.de", "aai-admin", (), "member"),
    ),
    (
        "urn:geant:eosc-federation.eu:group:pp-0190abc",
        Entitlement("geant:eosc-federation.eu", "pp-0190abc"),
    ),
    ("urn:mace:egi.eu:sub:ns:group:g:role=r#x", Entitlement("mace:egi.eu:sub:ns", "g", (), "r")),
    (E + "g:Role=a#a", Entitlement(EGI, "g", ("Role=a",))),
    ("urn:mace:egi.eu?+r?=q:group:g#a", Entitlement(EGI, "g")),
]

REFUSED = [
    ("urn:mace:egi.eu:GROUP:vo:role=member#x", "names no group"),
    (E + "#a", "empty"),
    (E + "g:#a", "empty"),
    (E + ":g#a", "empty"),
    (E + "g:role=#a", "role is empty"),
    (E + "g:role=a:role=b#a", "not the last part"),
    (E + "g:role=a:sub#a", "not the last part"),
    (E + "role=member#a", "no group"),
    (E + "g:role=a#", "after its #"),
    (E + "g:role=a#a#b", "more than one #"),
    ("urn:mace:group:g", "does not follow"),
    ("urn:mace:egi.eu:res:rcauth#aai.egi.eu", "names no group"),
    (" " + E + "g#a", "start with urn:"),
    (E + "g ", "percent-encoded"),
    (E + "my group", "percent-encoded"),
    (E + "g\n", "percent-encoded"),
    (E + "gr\u00fcn", "percent-encoded"),
    (E + "vo\u200b.pangeo.eu", "percent-encoded"),
    (E + "g%zz", "percent-encoded"),
    (E + "g%2", "percent-encoded"),
    ("mace:egi.eu:group:g", "start with urn:"),
    ("", "start with urn:"),
    ("urn:mace:egi.eu#x:group:g", "names no group"),
    (E + "g?x", "inside the group"),
    # The library takes the last ':group:' and moves what stands before into the namespace.
    (E + "evil:group:vo.pangeo.eu:role=member", "stands in it twice"),
    ("urn:mace:group:egi.eu:group:g", "stands in it twice"),
    (E + "g" * LONGEST, "longer than"),
    ("urn:mace:egi.eu:goc.egi.eu:1234G0:SITE:Site+Manager@egi.eu", "names no group"),
]


@pytest.mark.parametrize(("text", "entitlement"), UNDERSTOOD)
def test_understood(text: str, entitlement: Entitlement) -> None:
    assert parse(text) == entitlement


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse(text)


def test_the_canonical_form_drops_authority_and_reads_back() -> None:
    for text, entitlement in UNDERSTOOD:
        assert "#" not in entitlement.canonical
        assert parse(entitlement.canonical) == entitlement, text


def test_hexadecimal_case_and_authority_make_no_difference() -> None:
    assert parse(E + "a%2fb#a") == parse(E + "a%2Fb#b")
    assert parse(E + "a%aFb") == parse(E + "a%AFb")
    assert parse(E + "a%61") != parse(E + "aa")
    assert parse(E + "VO.pangeo.eu") != parse(E + "vo.pangeo.eu")


@pytest.mark.parametrize(
    ("held", "required", "satisfied"),
    [
        ("vo:role=member", "vo", True),
        ("vo", "vo", True),
        ("vo", "vo:role=member", False),
        ("vo:role=member#x", "vo:role=member#y", True),
        ("vo:sub:role=member", "vo", True),
        ("vo:sub", "vo", True),
        ("vo:sub:role=member", "vo:role=member", False),
        ("vo:role=vm_operator", "vo:role=member", False),
        ("vo:role=member", "vo:sub", False),
        ("vo:sub:role=member", "vo:sub", True),
        ("vo:subway", "vo:sub", False),
        ("vo:sub:deep:role=member", "vo:sub:role=member", False),
        ("vox:role=member", "vo", False),
        ("vo:Role=member", "vo:role=member", False),
    ],
)
def test_satisfies(held: str, required: str, satisfied: bool) -> None:
    assert parse_requirement(E + required).met_by(parse(E + held)) is satisfied


def test_another_namespace_never_satisfies() -> None:
    required = parse_requirement(E + "vo:role=member")
    for namespace in ("urn:mace:egi.eu:sub", "urn:mace:evil.eu", "urn:geant:egi.eu"):
        assert not required.met_by(parse(f"{namespace}:group:vo:role=member"))


def test_both_claims_are_read_as_list_or_text_and_united() -> None:
    claims = {
        "entitlements": E + "a:role=member#new",
        "eduperson_entitlement": [E + "a:role=member#old", E + "b"],
    }
    groups = read(claims)
    assert [entitlement.canonical for entitlement in groups.understood] == [E + "a:role=member", E + "b"]
    assert groups.skipped == ()


@pytest.mark.parametrize(
    "claim", [None, [], "", {}, 5, True, b"urn:mace:egi.eu:group:g", {"urn": 1}, [None, 3, ["x"]]]
)
def test_malformed_claims_give_no_membership_and_no_failure(claim: object) -> None:
    groups = read({"entitlements": claim, "eduperson_entitlement": claim})
    assert groups.understood == ()


def test_malformed_values_are_skipped_with_a_reason_and_the_rest_counts() -> None:
    groups = read({"entitlements": ["nonsense", E + "good", E + "g:role=", None, "x" * 5000, "\x1b[31m"]})
    assert [entitlement.group for entitlement in groups.understood] == ["good"]
    assert len(groups.skipped) == 5
    assert all(skipped.reason for skipped in groups.skipped)
    assert all(len(skipped.value) <= 200 and skipped.value.isprintable() for skipped in groups.skipped)


def test_a_role_in_other_letters_is_remarked() -> None:
    groups = read({"entitlements": [E + "g:Role=admin"]})
    assert "read as a subgroup" in groups.remarks[0]


def test_a_flood_of_values_is_bounded() -> None:
    groups = read({"entitlements": [f"{E}g{index}" for index in range(MOST + 10)]})
    assert len(groups.understood) == MOST
    assert groups.skipped[-1].value == "10 values"


PIECES = st.sampled_from(["urn", "mace", "egi.eu", "group", "role=", "role=a", "a", "", "#", "?", "%2"])


@given(st.text(max_size=60) | st.lists(PIECES, max_size=10).map(":".join))
def test_no_text_makes_parsing_fail_otherwise(text: str) -> None:
    try:
        entitlement = parse(text)
    except ValueError as error:
        assert str(error)
    else:
        assert parse(entitlement.canonical) == entitlement
