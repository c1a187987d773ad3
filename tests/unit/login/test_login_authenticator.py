"""The authenticator's own part: words for the refused, refresh that asks again, outages that end no session."""

from __future__ import annotations

import asyncio
import json
from io import BytesIO
from typing import Any

import pytest
import sqlalchemy as sa
from oauthenticator.generic import GenericOAuthenticator
from sqlalchemy.orm import Session
from tornado import web
from tornado.httpclient import HTTPClientError, HTTPRequest, HTTPResponse

from tidehub.login.authenticator import ProviderUnavailable, Refused, SiteAuthenticator
from tidehub.login.endpoints import Endpoints
from tidehub.login.hub_traits import traits_of
from tidehub.login.users import Identity
from tidehub.site.model import Site

MEMBER = "urn:mace:egi.eu:group:vo.example.eu:role=member"
ISSUER = "https://op.example.org"
SITE = Site.model_validate(
    {
        "site": {"name": "Coast & Sea", "contact": "help@example.org"},
        "login": {
            "provider": "demo",
            "enrolment_url": "https://example.org/join",
            "allow": {"groups": [MEMBER]},
            "admins": {"users": ["root"]},
            "block": ["mallory", "blocked@sub"],
        },
        "notebooks": {"profiles": [{"name": "A", "default": True}]},
    }
)
ADDRESSES = Endpoints(
    ISSUER,
    f"{ISSUER}/auth",
    f"{ISSUER}/token",
    f"{ISSUER}/userinfo",
    f"{ISSUER}/jwks",
    end_session_url=f"{ISSUER}/logout",
)


class Ours(SiteAuthenticator):
    """With a hub that has nothing but a database."""

    @property
    def known_users(self) -> Any:
        if self._known_users is None:
            from tidehub.login.users import KnownUsers

            self._known_users = KnownUsers(Session(sa.create_engine("sqlite://")))
        return self._known_users


@pytest.fixture
def authenticator() -> SiteAuthenticator:
    return Ours(**traits_of(SITE, ADDRESSES))


def model(name: str, *entitlements: str, sub: str = "") -> dict[str, Any]:
    claims = {
        "preferred_username": name,
        "sub": sub or f"{name}@egi.eu",
        "entitlements": list(entitlements),
    }
    return {"name": name, "admin": None, "auth_state": {"oauth_user": claims, "id_token": "the-id-token"}}


async def test_a_member_is_admitted_and_brings_groups(authenticator: SiteAuthenticator) -> None:
    member = model("alice", MEMBER + "#aai.egi.eu")
    assert await authenticator.check_allowed("alice", member) is True
    assert await authenticator.get_user_groups(member["auth_state"]) == {MEMBER}
    assert (await authenticator.update_auth_model(member))["admin"] is False


async def test_an_administrator_is_one_by_the_site(authenticator: SiteAuthenticator) -> None:
    assert (await authenticator.update_auth_model(model("root")))["admin"] is True


async def test_the_refused_user_reads_why_and_where_to_ask(
    authenticator: SiteAuthenticator,
) -> None:
    stranger = model("nora", "urn:mace:egi.eu:group:other.vo:role=member#aai.egi.eu")
    with pytest.raises(Refused) as refused:
        await authenticator.check_allowed("nora", stranger)
    assert refused.value.status_code == 403
    page = refused.value.jupyterhub_html_message
    for words in ("Coast &amp; Sea", "vo.example.eu", "help@example.org", "https://example.org/join", "nora"):
        assert words in page
    assert f"{ISSUER}/logout?id_token_hint=the-id-token" in page
    assert "the-id-token" not in str(refused.value) and "nora@egi.eu" in str(refused.value)


async def test_names_from_the_provider_cannot_write_the_page(authenticator: SiteAuthenticator) -> None:
    with pytest.raises(Refused) as refused:
        await authenticator.check_allowed("<script>x</script>", model("<script>x</script>"))
    assert "<script>" not in refused.value.jupyterhub_html_message


async def test_nobody_without_an_auth_model_is_admitted(authenticator: SiteAuthenticator) -> None:
    assert await authenticator.check_allowed("alice", None) is False


@pytest.mark.parametrize(("name", "sub"), [("mallory", "any"), ("mal", "blocked@sub")])
async def test_the_blocked_are_refused_with_words(
    authenticator: SiteAuthenticator, name: str, sub: str
) -> None:
    assert authenticator.check_blocked_users(name) is True  # the page says it, not upstream's empty answer
    with pytest.raises(Refused) as refused:
        await authenticator.check_allowed(name, model(name, MEMBER, sub=sub))
    assert "blocked" in refused.value.jupyterhub_html_message


async def test_the_second_with_one_name_is_refused_and_the_log_says_what_to_do(
    authenticator: SiteAuthenticator,
) -> None:
    await authenticator.check_allowed("alice", model("alice", MEMBER, sub="first"))
    with pytest.raises(Refused) as refused:
        await authenticator.check_allowed("alice", model("alice", MEMBER, sub="second"))
    assert "another account" in refused.value.jupyterhub_html_message
    assert "login.names: {second: NAME}" in str(refused.value)


async def test_a_new_name_at_the_provider_gives_no_right_that_goes_by_names(
    authenticator: SiteAuthenticator,
) -> None:
    await authenticator.check_allowed("alice", model("alice", MEMBER, sub="first"))
    renamed = model("root", MEMBER, sub="first")
    name = authenticator.user_info_to_username(renamed["auth_state"]["oauth_user"])
    assert name == "alice"
    assert (await authenticator.update_auth_model({**renamed, "name": name}))["admin"] is False


# --- refresh ----------------------------------------------------------------------------------


class User:
    name = "alice"

    def __init__(self, **state: Any) -> None:
        self.state: dict[str, Any] | None = {
            **model("alice", MEMBER)["auth_state"],
            "access_token": "old-access",
            "refresh_token": "old-refresh",
            "token_response": {"access_token": "old-access", "token_type": "bearer"},
            **state,
        }

    async def get_auth_state(self) -> Any:
        return self.state and dict(self.state)

    async def save_auth_state(self, state: Any) -> None:
        self.state = state


def refreshing(monkeypatch: pytest.MonkeyPatch, outcome: Any) -> list[int]:
    calls: list[int] = []

    async def refresh(self: Any, user: Any, handler: Any = None, **kwargs: Any) -> Any:
        calls.append(1)
        await asyncio.sleep(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(GenericOAuthenticator, "refresh_user", refresh)
    return calls


@pytest.mark.parametrize(
    ("outcome", "kept", "verdict"),
    [
        (model("alice", MEMBER), True, "confirmed"),
        (model("alice"), False, "refused"),
        (model("alice", MEMBER.replace("member", "vm_operator")), False, "refused"),
        (model("alice", MEMBER, sub="somebody else"), False, "refused"),
        (False, False, "stale"),
        (ProviderUnavailable("code 502"), True, "unsure"),
    ],
)
async def test_a_refresh_asks_the_rule_again(
    authenticator: SiteAuthenticator, monkeypatch: pytest.MonkeyPatch, outcome: Any, kept: bool, verdict: str
) -> None:
    refreshing(monkeypatch, outcome)
    assert bool(await authenticator.refresh_user(User())) is kept
    assert authenticator._seen["alice"].verdict == verdict


async def test_two_refreshes_at_once_are_one(
    authenticator: SiteAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = refreshing(monkeypatch, model("alice", MEMBER))
    user = User()
    answers = await asyncio.gather(*(authenticator.refresh_user(user) for _ in range(5)))
    assert len(calls) == 1 and all(answers)


async def test_the_blocked_lose_their_session(
    authenticator: SiteAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = refreshing(monkeypatch, model("alice", MEMBER))
    authenticator.known_users.bind("alice", Identity(ISSUER, "blocked@sub"))
    assert await authenticator.refresh_user(User()) is False
    assert not calls


async def test_an_outage_that_lasts_ends_the_session(
    authenticator: SiteAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    refreshing(monkeypatch, ProviderUnavailable("code 502"))
    authenticator.known_users.bind("alice", Identity(ISSUER, "alice@egi.eu"))
    assert await authenticator.refresh_user(User()) is True
    monkeypatch.setattr(authenticator.known_users, "unconfirmed_for", lambda name: 86401.0)
    assert await authenticator.refresh_user(User()) is False


def refusal(code: int, error: str) -> HTTPClientError:
    request = HTTPRequest("http://127.0.0.1:1/token")
    body = BytesIO(json.dumps({"error": error, "error_description": "SECRET"}).encode())
    return HTTPClientError(code, response=HTTPResponse(request, code, buffer=body))


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (refusal(400, "invalid_grant"), "refused"),
        (refusal(401, "invalid_client"), "unsure"),
        (HTTPClientError(502), "unsure"),
        (ConnectionRefusedError(), "unsure"),
    ],
)
async def test_only_the_providers_own_word_about_the_user_ends_everything(
    authenticator: SiteAuthenticator, monkeypatch: pytest.MonkeyPatch, fault: Exception, verdict: str
) -> None:
    async def fetch(self: Any, url: str, label: str = "", **kwargs: Any) -> Any:
        raise fault if url.endswith("/token") else HTTPClientError(401)

    monkeypatch.setattr(GenericOAuthenticator, "httpfetch", fetch)
    assert (await authenticator.ask_again(User()))[0] == verdict


@pytest.mark.parametrize(
    ("code", "said"), [(507, "disk is full"), (503, "does not answer"), (599, "does not answer")]
)
async def test_a_provider_that_cannot_answer_is_told_to_whoever_signs_in(
    authenticator: SiteAuthenticator, monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    async def fetch(self: Any, url: str, *args: Any, **more: Any) -> Any:
        raise HTTPClientError(code)

    monkeypatch.setattr(GenericOAuthenticator, "httpfetch", fetch)
    with pytest.raises(ProviderUnavailable) as caught:
        await authenticator.httpfetch(f"{ISSUER}/token")
    assert caught.value.status_code == 503 and said in caught.value.jupyterhub_message


async def test_a_spent_refresh_token_is_replaced_even_if_the_userinfo_fails(
    authenticator: SiteAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(
        [
            HTTPClientError(401),
            {"access_token": "new-access", "refresh_token": "new-refresh", "token_type": "bearer"},
            HTTPClientError(502),
        ]
    )

    async def fetch(self: Any, url: str, label: str = "", **kwargs: Any) -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(GenericOAuthenticator, "httpfetch", fetch)
    user = User()
    assert await authenticator.refresh_user(user) is True
    assert user.state is not None
    assert (user.state["refresh_token"], user.state["access_token"]) == ("new-refresh", "new-access")


# --- talking to the provider ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (refusal(400, "invalid_grant"), 403),
        (HTTPClientError(401), 403),
        (HTTPClientError(502), 503),
        (HTTPClientError(599), 503),
        (ConnectionRefusedError(), 503),
        (TimeoutError(), 503),
    ],
)
async def test_a_refused_code_is_the_users_affair_and_an_outage_is_not(
    authenticator: SiteAuthenticator, monkeypatch: pytest.MonkeyPatch, fault: Exception, status: int
) -> None:
    async def fails(self: Any, url: str, label: str = "", **kwargs: Any) -> Any:
        raise fault

    monkeypatch.setattr(GenericOAuthenticator, "httpfetch", fails)
    with pytest.raises(web.HTTPError) as raised:
        await authenticator.get_token_info(None, {"code": "secret-code"})
    assert raised.value.status_code == status
    assert "secret-code" not in str(raised.value) and "SECRET" not in str(raised.value)


@pytest.mark.parametrize("claim", [None, "", "   ", 7, ["alice"], "../root", "a/b", "al\u0456ce", "a" * 256])
def test_an_unusable_user_name_is_said(authenticator: SiteAuthenticator, claim: Any) -> None:
    with pytest.raises(web.HTTPError) as refused:
        authenticator.user_info_to_username({"preferred_username": claim, "sub": "x"})
    assert refused.value.status_code == 403
    assert "preferred_username" in str(refused.value)


def test_signing_out_names_the_session_and_the_way_back(authenticator: SiteAuthenticator) -> None:
    authenticator.signed_out_url = "https://hub.example.org/hub/login"
    address = authenticator.end_session_address("token")
    assert address is not None and address.startswith(f"{ISSUER}/logout?id_token_hint=token&")
    assert "post_logout_redirect_uri=https%3A%2F%2Fhub.example.org%2Fhub%2Flogin" in address
