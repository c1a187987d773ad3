from __future__ import annotations

from typing import Any

import pytest

from tidehub.login.admission import Decision, decide
from tidehub.site import builtin_site
from tidehub.site.model import Admins, Allow, Login

VO = "urn:mace:egi.eu:group:vo.pangeo.eu"
PANGEO = f"{VO}:role=member#aai.egi.eu"


def login(**changes: Any) -> Login:
    settings: dict[str, Any] = {"provider": "egi-check-in", "allow": Allow(groups=(PANGEO,))}
    return Login(**{**settings, **changes})


def decided(
    held: object, *, name: object = "ann", rule: Login | None = None, claim: str = "entitlements"
) -> Decision:
    return decide({"sub": "1@egi.eu", "preferred_username": name, claim: held}, rule or login())


@pytest.mark.parametrize("claim", ["entitlements", "eduperson_entitlement"])
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [value], lambda value: ["junk", value]])
@pytest.mark.parametrize("authority", ["", "#aai.egi.eu", "#aai-demo.egi.eu"])
def test_a_member_enters_whatever_the_claim_and_its_shape(claim: str, wrap: Any, authority: str) -> None:
    decision = decided(wrap(f"{VO}:role=member{authority}"), claim=claim)
    assert decision.admitted
    assert not decision.admin
    assert decision.rule == "login.allow.groups"
    assert decision.groups == (f"{VO}:role=member",)


@pytest.mark.parametrize(
    "held",
    [
        None,
        [],
        "",
        f"{VO}:role=vm_operator#aai.egi.eu",
        f"{VO}#aai.egi.eu",
        f"{VO}:sub:role=member#aai.egi.eu",
        "urn:mace:egi.eu:group:vo.other.eu:role=member#aai.egi.eu",
        "urn:mace:evil.eu:group:vo.pangeo.eu:role=member#aai.egi.eu",
        "urn:mace:egi.eu:group:evil:group:vo.pangeo.eu:role=member",
        f"{VO}%3Arole=member",
        f"{VO}:role=member:role=x",
        list(PANGEO),
        {PANGEO: True},
        True,
    ],
)
def test_everyone_else_is_refused_in_a_sentence_that_names_the_missing_membership(held: object) -> None:
    decision = decided(held)
    assert not decision.admitted
    assert not decision.admin
    assert decision.rule == ""
    assert "vo.pangeo.eu (role member)" in decision.reason
    assert decision.reason.endswith(".")


def test_the_refusal_says_what_was_found_instead() -> None:
    assert "vo.pangeo.eu (role vm_operator)" in decided(f"{VO}:role=vm_operator").reason
    assert "sent no memberships at all" in decided(None).reason
    assert "could not be understood" in decided("nonsense").reason
    assert "vo.other.eu" not in decided("urn:mace:egi.eu:group:vo.other.eu").reason


def test_a_rule_without_role_admits_any_role_and_subgroup() -> None:
    rule = login(allow=Allow(groups=(VO,)))
    for held in (f"{VO}:role=vm_operator", f"{VO}:cloud:role=member", VO):
        assert decided(held, rule=rule).admitted


def test_users_everyone_and_admins() -> None:
    assert decided(None, rule=login(allow=Allow(users=("Ann",)))).rule == "login.allow.users"
    assert decided(None, rule=login(allow=Allow(everyone=True))).rule == "login.allow.everyone"
    boss = login(admins=Admins(users=("ANN",), groups=(f"{VO}:role=admin",)))
    assert decided(None, rule=boss).admin
    assert decided(None, rule=boss).admitted
    by_role = decided([f"{VO}:role=admin"], name="bob", rule=boss)
    assert (by_role.admitted, by_role.admin, by_role.rule) == (True, True, "login.admins.groups")
    assert not decided([PANGEO], name="bob", rule=boss).admin


def test_a_rule_that_admits_named_users_only_does_not_speak_of_groups() -> None:
    decision = decided([PANGEO], name="eve", rule=login(allow=Allow(users=("ann",))))
    assert decision.reason == "eve is not among the users who may enter this site."


def test_an_unreadable_rule_admits_nobody() -> None:
    assert not decided([PANGEO], rule=login(allow=Allow(groups=("vo.pangeo.eu",)))).admitted


@pytest.mark.parametrize(
    "name", [None, "", " ann", "ann ", "a/b", "a:b", "..", ".", "a\nb", "x" * 256, 5, ["ann"], "a\\b"]
)
def test_a_name_that_cannot_be_a_user_is_refused_even_to_members(name: object) -> None:
    decision = decided([PANGEO], name=name)
    assert not decision.admitted
    assert decision.username == ""
    assert "preferred_username" in decision.reason


def test_names_are_those_of_the_hub() -> None:
    assert decided([PANGEO], name="Ann.Lee@Example").username == "ann.lee@example"
    other = login(username_claim="sub")
    assert decided([PANGEO], rule=other).username == "1@egi.eu"


def test_groups_fit_the_hub_and_hold_nothing_but_memberships() -> None:
    decision = decided([PANGEO, f"{VO}:{'x' * 250}"])
    assert decision.groups == (f"{VO}:role=member",)
    assert "too long" in decision.skipped[0].reason


def test_the_builtin_site_decides_by_the_same_rule() -> None:
    rule = builtin_site().login
    member = "urn:mace:egi.eu:group:vo.tidehub.example:role=member"
    assert decided([member], rule=rule).admitted
    assert not decided([PANGEO], rule=rule).admitted
