"""The hub's real authenticator class against the real provider."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from identity_process import CALLBACK, GROUP, HUB, HUB_SECRET, Browser, RunningProvider
from oauthenticator.generic import GenericOAuthenticator
from oauthenticator.oauth2 import _serialize_state
from traitlets.config import Config

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProvider]:
    running = RunningProvider(tmp_path_factory.mktemp("identity"))
    running.make_accounts()
    running.start()
    yield running
    running.stop()


@pytest.mark.parametrize(("username", "admitted"), [("alice", True), ("rita", False), ("nora", False)])
@pytest.mark.parametrize("claim", ["eduperson_entitlement", "entitlements"])
async def test_generic_oauthenticator_decides_and_refreshes(
    provider: RunningProvider, username: str, admitted: bool, claim: str
) -> None:
    settings = {
        "client_id": HUB,
        "client_secret": HUB_SECRET,
        "oauth_callback_url": CALLBACK,
        "authorize_url": f"{provider.inside}/authorize",
        "token_url": f"{provider.inside}/token",
        "userdata_url": f"{provider.inside}/userinfo",
        "scope": ["openid", "email", "profile", "offline_access", claim],
        "username_claim": "preferred_username",
        "manage_groups": True,
        "auth_state_groups_key": f"oauth_user.{claim}",
        "allowed_groups": {GROUP},
        "basic_auth": True,
        "enable_auth_state": True,
    }
    authenticator = GenericOAuthenticator(config=Config({"GenericOAuthenticator": settings}))
    code, verifier = Browser(provider).sign_in(username, scope=" ".join(settings["scope"]))
    state = _serialize_state({"code_verifier": verifier})
    handler = SimpleNamespace(get_argument={"code": code}.get, get_state_cookie=lambda: state)
    model = await authenticator.authenticate(handler)
    assert model["name"] == username
    assert bool(await authenticator.check_allowed(username, model)) is admitted

    # What the hub does an hour later, when the access token is no longer good.
    with sqlite3.connect(provider.state_dir / "identity.sqlite") as database:
        database.execute("UPDATE access_tokens SET expires = 0")
    assert provider.userinfo(model["auth_state"]["access_token"]).status_code == 401

    async def auth_state() -> dict[str, object]:
        return dict(model["auth_state"])

    renewed = await authenticator.refresh_user(
        SimpleNamespace(name=username, get_auth_state=auth_state), handler
    )
    assert renewed["name"] == username
    assert renewed["auth_state"]["refresh_token"] != model["auth_state"]["refresh_token"]
