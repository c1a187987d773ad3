"""The authenticator's own part: words for the refused, refresh that asks again, outages that end no session."""

from __future__ import annotations

from typing import Any

import pytest
from oauthenticator.generic import GenericOAuthenticator
from tornado import web
from tornado.httpclient import HTTPClientError

from tidehub.login.admission import decide
from tidehub.login.authenticator import ProviderUnavailable, Refused, SiteAuthenticator, refusal_page
from tidehub.site.model import Site

MEMBER = "urn:mace:egi.eu:group:vo.example.eu:role=member"
SITE = Site.model_validate(
    {
        "site": {"name": "Coast & Sea", "contact": "help@example.org"},
        "login": {
            "provider": "demo",
            "enrolment_url": "https://example.org/join",
            "allow": {"groups": [MEMBER]},
            "admins": {"users": ["root"]},
        },
        "notebooks": {"profiles": [{"name": "A", "default": True}]},
    }
)


@pytest.fixture
def authenticator(monkeypatch: pytest.MonkeyPatch) -> SiteAuthenticator:
    monkeypatch.setattr(SiteAuthenticator, "site", SITE, raising=False)
    return SiteAuthenticator(
        manage_groups=True, enable_auth_state=True, username_claim="preferred_username", client_id="x"
    )


def model(name: str, *entitlements: str) -> dict[str, Any]:
    claims = {"preferred_username": name, "sub": f"{name}@egi.eu", "entitlements": list(entitlements)}
    return {"name": name, "admin": None, "auth_state": {"oauth_user": claims}}


async def test_a_member_is_admitted_and_brings_groups(authenticator: SiteAuthenticator) -> None:
    member = model("alice", MEMBER + "#aai.egi.eu")
    assert await authenticator.check_allowed("alice", member) is True
    assert await authenticator.get_user_groups(member["auth_state"]) == {MEMBER}
    assert (await authenticator.update_auth_model(member))["admin"] is False


async def test_an_administrator_is_one_by_the_site(authenticator: SiteAuthenticator) -> None:
    assert (await authenticator.update_auth_model(model("root")))["admin"] is True


async def test_the_refused_person_reads_why_and_where_to_ask(authenticator: SiteAuthenticator) -> None:
    stranger = model("nora", "urn:mace:egi.eu:group:other.vo:role=member#aai.egi.eu")
    with pytest.raises(Refused) as refused:
        await authenticator.check_allowed("nora", stranger)
    assert refused.value.status_code == 403
    page = refused.value.jupyterhub_html_message
    assert "vo.example.eu" in page
    assert "help@example.org" in page
    assert "https://example.org/join" in page


def test_names_from_the_provider_cannot_write_the_page() -> None:
    claims = {"preferred_username": "<script>x</script>", "entitlements": []}
    page = refusal_page(decide(claims, SITE.login), SITE, "https://op.example.org/logout")
    assert "<script>" not in page


async def test_nobody_without_an_auth_model_is_admitted(authenticator: SiteAuthenticator) -> None:
    assert await authenticator.check_allowed("alice", None) is False


def refreshing(monkeypatch: pytest.MonkeyPatch, outcome: Any) -> None:
    async def refresh(self: Any, user: Any, handler: Any = None, **kwargs: Any) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(GenericOAuthenticator, "refresh_user", refresh)


class User:
    name = "alice"


@pytest.mark.parametrize(
    ("outcome", "kept"),
    [
        (model("alice", MEMBER), True),
        (model("alice"), False),
        (model("alice", MEMBER.replace("member", "vm_operator")), False),
        (False, False),
        (True, True),
        (ProviderUnavailable("code 502"), True),
    ],
)
async def test_a_refresh_asks_the_rule_again(
    authenticator: SiteAuthenticator, monkeypatch: pytest.MonkeyPatch, outcome: Any, kept: bool
) -> None:
    refreshing(monkeypatch, outcome)
    assert bool(await authenticator.refresh_user(User())) is kept


async def test_an_outage_behind_the_refresh_token_keeps_the_session(
    authenticator: SiteAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(self: Any, url: str, label: str = "", **kwargs: Any) -> Any:
        raise ConnectionRefusedError

    async def refresh(self: Any, user: Any, handler: Any = None, **kwargs: Any) -> Any:
        try:
            await self.httpfetch("http://127.0.0.1:1/token")
        except Exception:
            return False
        raise AssertionError

    monkeypatch.setattr(GenericOAuthenticator, "httpfetch", unreachable)
    monkeypatch.setattr(GenericOAuthenticator, "refresh_user", refresh)
    assert await authenticator.refresh_user(User()) is True


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (HTTPClientError(400), 403),
        (HTTPClientError(401), 403),
        (HTTPClientError(502), 503),
        (HTTPClientError(599), 503),
        (ConnectionRefusedError(), 503),
        (TimeoutError(), 503),
    ],
)
async def test_a_refused_code_is_the_persons_affair_and_an_outage_is_not(
    authenticator: SiteAuthenticator, monkeypatch: pytest.MonkeyPatch, fault: Exception, status: int
) -> None:
    async def fails(self: Any, url: str, label: str = "", **kwargs: Any) -> Any:
        raise fault

    monkeypatch.setattr(GenericOAuthenticator, "httpfetch", fails)
    authenticator.token_url = "http://127.0.0.1:1/token"
    with pytest.raises(web.HTTPError) as raised:
        await authenticator.get_token_info(None, {"code": "secret-code"})
    assert raised.value.status_code == status
    assert "secret-code" not in str(raised.value)


@pytest.mark.parametrize("claim", [None, "", "   ", 7, ["alice"]])
def test_a_missing_user_name_is_said(authenticator: SiteAuthenticator, claim: Any) -> None:
    with pytest.raises(web.HTTPError, match="preferred_username"):
        authenticator.user_info_to_username({"preferred_username": claim})
