"""The rule for older hubs: GenericOAuthenticator's own decision, made by the functions that it is given."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from tornado import web

from tidehub.login.admission import rule_of
from tidehub.login.older_hub import ADMIN, ADMITTED, NOBODY, SiteRule, memberships
from tidehub.site.reading.load import load_text

VO = "urn:mace:egi.eu:group:vo.example.eu"
SITE = load_text(
    f"""
site: {{name: Testing, url: "https://hub.example.org"}}
login:
  provider: egi-check-in
  client_id: testing
  scopes: [openid, entitlements]
  allow: {{users: [Zoe], groups: ["{VO}:role=member"]}}
  admins: {{groups: ["{VO}:admins"]}}
  names: {{sub-of-bo: bo}}
  block: [mallory, sub-of-eve]
notebooks: {{profiles: [{{name: A, default: true}}]}}
""",
    "tidehub.yaml",
).site
RULE = SiteRule(rule_of(SITE.login), dict(SITE.login.names), list(SITE.login.block))


def claims(name: str, *held: str, sub: str | None = None) -> dict[str, Any]:
    return {"sub": sub or f"sub-of-{name}", "preferred_username": name, "entitlements": list(held)}


@pytest.mark.parametrize(
    ("who", "groups"),
    [
        (claims("ann", f"{VO}:role=member#aai.egi.eu"), [ADMITTED]),
        (claims("ann", f"{VO}:admins:role=x"), [ADMITTED, ADMIN]),
        (claims("zoe"), [ADMITTED]),
        (claims("ann"), [NOBODY]),
        (claims("ann", f"{VO}x:role=member"), [NOBODY]),
        (claims("ann", ADMITTED, ADMIN), [NOBODY]),  # a provider's group of that name is none
        (claims("mallory", f"{VO}:role=member"), [NOBODY]),
        (claims("eve", f"{VO}:role=member"), [NOBODY]),
        ({"preferred_username": "zoe"}, [NOBODY]),  # without a subject
        ({"sub": "s", "preferred_username": ["zoe"]}, [NOBODY]),
    ],
)
def test_only_the_rule_gives_the_group_that_admits(who: dict[str, Any], groups: list[str]) -> None:
    assert RULE.groups(who) == groups


def test_the_operators_word_for_a_name_counts_and_nobody_else_has_it() -> None:
    assert RULE.username(claims("robert", sub="sub-of-bo")) == "bo"
    with pytest.raises(web.HTTPError) as caught:
        RULE.username(claims("bo", sub="somebody else"))
    assert caught.value.status_code == 403
    assert RULE.groups(claims("bo", f"{VO}:role=member", sub="somebody else")) == [NOBODY]


@pytest.mark.parametrize("name", ["a/b", "K\u212a", "", "service:x"])
def test_a_name_that_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(web.HTTPError, match="403"):
        RULE.username(claims(name))
    assert RULE.username(claims("Ann")) == "ann"


def test_memberships_become_groups_without_their_authority() -> None:
    state = {"oauth_user": claims("ann", f"{VO}:role=member#aai.egi.eu", "nonsense")}
    model = RULE.keep_groups(None, None, {"name": "ann", "auth_state": state})
    assert model["groups"] == [f"{VO}:role=member"]
    assert RULE.keep_groups(None, None, {"name": "ann", "auth_state": None})["groups"] == []


@pytest.mark.parametrize("state", [None, {}, {"oauth_user": None}])
def test_who_is_known_by_name_only_holds_nothing(state: Any) -> None:
    async def auth_state() -> Any:
        return state

    spawner = SimpleNamespace(user=SimpleNamespace(get_auth_state=auth_state))
    assert asyncio.run(memberships(spawner)) == []


def test_memberships_of_the_last_sign_in() -> None:
    async def auth_state() -> Any:
        return {"oauth_user": claims("ann", f"{VO}:role=member#aai.egi.eu")}

    spawner = SimpleNamespace(user=SimpleNamespace(get_auth_state=auth_state))
    assert asyncio.run(memberships(spawner)) == [f"{VO}:role=member"]
