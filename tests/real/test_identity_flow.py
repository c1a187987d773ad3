"""A user's way through the real provider: sign in, tokens, claims, sign out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from identity_process import (
    AFTER_LOGOUT,
    CALLBACK,
    GROUP,
    HUB,
    HUB_SECRET,
    SCOPE,
    Browser,
    RunningProvider,
    answer_of,
    hidden_fields,
    pkce,
)
from oauthlib.oauth2 import WebApplicationClient

from tidehub.identity.accounts import AccountStore

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProvider]:
    running = RunningProvider(tmp_path_factory.mktemp("identity"))
    running.make_accounts()
    running.start()
    yield running
    running.stop()


def test_an_independent_client_library_signs_in_from_discovery_alone(
    provider: RunningProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    described = httpx.get(f"{provider.issuer}/.well-known/openid-configuration").json()
    assert described["issuer"] == provider.issuer
    client = WebApplicationClient(HUB)
    verifier = client.create_code_verifier(64)
    address = client.prepare_request_uri(
        described["authorization_endpoint"],
        redirect_uri=CALLBACK,
        scope=SCOPE,
        state="s&t=a/t e",
        nonce="n1",
        code_challenge=client.create_code_challenge(verifier, "S256"),
        code_challenge_method="S256",
    )
    browser = Browser(provider)
    sent_back = browser.submit(browser.http.get(address), "Alice ", provider.passwords["alice"])
    assert answer_of(sent_back)["iss"] == provider.issuer
    client.parse_request_uri_response(sent_back.headers["Location"], state="s&t=a/t e")
    body = client.prepare_request_body(redirect_uri=CALLBACK, code_verifier=verifier)
    answer = httpx.post(
        described["token_endpoint"],
        content=body,
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        auth=(HUB, HUB_SECRET),
    )
    assert answer.headers["Cache-Control"] == "no-store"
    tokens = client.parse_request_body_response(answer.text, scope=SCOPE)
    key = jwt.PyJWKClient(described["jwks_uri"]).get_signing_key_from_jwt(tokens["id_token"])
    claims = jwt.decode(
        tokens["id_token"], key.key, algorithms=["RS256"], audience=HUB, issuer=described["issuer"]
    )
    assert claims["nonce"] == "n1"
    assert claims["exp"] - claims["iat"] == 3600
    users = provider.userinfo(tokens["access_token"]).json()
    assert users["sub"] == claims["sub"]
    assert users["preferred_username"] == "alice"
    assert users["entitlements"] == users["eduperson_entitlement"] == [GROUP]
    assert not {"entitlements", "eduperson_entitlement", "email", "name"} & set(claims)


def test_every_address_in_discovery_answers(provider: RunningProvider) -> None:
    described = httpx.get(f"{provider.issuer}/.well-known/openid-configuration").json()
    endpoints = {name: url for name, url in described.items() if name.endswith(("_endpoint", "jwks_uri"))}
    assert len(endpoints) == 5
    for name, url in endpoints.items():
        assert url.startswith(provider.issuer + "/"), name
        assert httpx.get(url).status_code != 404, name
    assert described["code_challenge_methods_supported"] == ["S256"]
    for absent in ("revocation_endpoint", "introspection_endpoint", "registration_endpoint"):
        assert absent not in described


def test_without_offline_access_there_is_no_refresh_token(provider: RunningProvider) -> None:
    tokens = Browser(provider).tokens(scope="openid email")
    assert "refresh_token" not in tokens
    users = provider.userinfo(str(tokens["access_token"])).json()
    assert set(users) == {"sub", "email", "email_verified"}


def test_userinfo_takes_post_and_names_the_fault(provider: RunningProvider) -> None:
    tokens = Browser(provider).tokens("rita")
    header = {"Authorization": f"Bearer {tokens['access_token']}"}
    users = httpx.post(f"{provider.inside}/userinfo", headers=header).json()
    assert users["entitlements"] == [GROUP.replace("member", "vm_operator")]
    missing = httpx.get(f"{provider.inside}/userinfo")
    assert missing.status_code == 401
    assert missing.headers["WWW-Authenticate"].startswith("Bearer ")
    wrong = provider.userinfo("guessed")
    assert wrong.status_code == 401
    assert 'error="invalid_token"' in wrong.headers["WWW-Authenticate"]


def test_changed_entitlements_count_at_once(provider: RunningProvider) -> None:
    token = str(Browser(provider).tokens("bob")["access_token"])
    assert GROUP in provider.userinfo(token).json()["entitlements"]
    with AccountStore.open(provider.state_dir) as store:
        before = store.get("bob")
        assert before is not None
        store.set_entitlements("bob", [])
        assert "entitlements" not in provider.userinfo(token).json()
        store.set_entitlements("bob", before.entitlements)


def test_second_sign_in_needs_no_password(provider: RunningProvider) -> None:
    browser = Browser(provider)
    browser.sign_in()
    verifier, challenge = pkce()
    again = browser.authorize(challenge, state=None)
    assert "state" not in answer_of(again)
    provider.redeem(answer_of(again)["code"], verifier)
    assert "Alice Atlantis" in browser.http.get(f"{provider.inside}/").text


def test_refresh_rotates_and_may_ask_for_less(provider: RunningProvider) -> None:
    first = Browser(provider).tokens()
    second = provider.token(
        grant_type="refresh_token", refresh_token=str(first["refresh_token"]), scope="openid email"
    ).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert second["scope"] == "openid email"
    assert "entitlements" not in provider.userinfo(second["access_token"]).json()
    claims = jwt.decode(second["id_token"], options={"verify_signature": False})
    assert "nonce" not in claims
    third = provider.token(grant_type="refresh_token", refresh_token=second["refresh_token"]).json()
    assert third["scope"] == SCOPE


def test_signing_out_by_hint_ends_session_and_tokens(provider: RunningProvider) -> None:
    browser = Browser(provider)
    tokens = browser.tokens(scope="openid email")
    code, verifier = browser_code(browser)
    answer = browser.http.get(
        f"{provider.inside}/logout",
        params={
            "id_token_hint": str(tokens["id_token"]),
            "post_logout_redirect_uri": AFTER_LOGOUT,
            "state": "bye & bye",
        },
    )
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"{AFTER_LOGOUT}?state=bye+%26+bye"
    assert browser.authorize(pkce()[1]).status_code == 200, "the form is shown again"
    assert provider.userinfo(str(tokens["access_token"])).status_code == 401
    refused = provider.token(
        grant_type="authorization_code", code=code, redirect_uri=CALLBACK, code_verifier=verifier
    )
    assert refused.json()["error"] == "invalid_grant"


def browser_code(browser: Browser) -> tuple[str, str]:
    verifier, challenge = pkce()
    return answer_of(browser.authorize(challenge))["code"], verifier


def test_offline_access_outlives_signing_out(provider: RunningProvider) -> None:
    browser = Browser(provider)
    tokens = browser.tokens()
    browser.http.get(f"{provider.inside}/logout", params={"id_token_hint": str(tokens["id_token"])})
    answer = provider.token(grant_type="refresh_token", refresh_token=str(tokens["refresh_token"]))
    assert answer.status_code == 200


def test_signing_out_by_hint_works_where_the_browser_keeps_the_cookie_back(provider: RunningProvider) -> None:
    browser = Browser(provider)
    tokens = browser.tokens()
    answer = httpx.post(f"{provider.inside}/logout", data={"id_token_hint": str(tokens["id_token"])})
    assert answer.status_code == 200
    assert browser.authorize(pkce()[1]).status_code == 200


def test_signing_out_without_hint_asks_first(provider: RunningProvider) -> None:
    browser = Browser(provider)
    browser.sign_in()
    parameters = {"client_id": HUB, "post_logout_redirect_uri": AFTER_LOGOUT, "state": "bye"}
    page = browser.http.get(f"{provider.inside}/logout", params=parameters)
    assert page.status_code == 200
    assert "Sign out?" in page.text
    answer_of(browser.authorize(pkce()[1]))
    done = browser.http.post(f"{provider.inside}/logout", data=hidden_fields(page.text))
    assert done.status_code == 303
    assert done.headers["Location"] == f"{AFTER_LOGOUT}?state=bye"
    assert browser.authorize(pkce()[1]).status_code == 200


def test_pages_are_safe_to_show(provider: RunningProvider) -> None:
    browser = Browser(provider)
    page = browser.submit(browser.authorize(pkce()[1]), '"><script>x</script>', "wrong")
    assert "<script" not in page.text
    assert "Pangeo &lt;of this &amp; that&gt;" in page.text
    assert "Demo accounts of this machine" in page.text
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "form-action 'self' http://127.0.0.1:9999;" in policy
    assert page.headers["X-Frame-Options"] == "DENY"
    assert page.headers["Cache-Control"] == "no-store"
    assert "Server" not in page.headers
    style = httpx.get(f"{provider.inside}/static/style.css")
    assert style.headers["Content-Type"].startswith("text/css")
    again = httpx.get(f"{provider.inside}/static/style.css", headers={"If-None-Match": style.headers["Etag"]})
    assert again.status_code == 304


def test_unknown_pages_and_methods_are_explained(provider: RunningProvider) -> None:
    for path in ("/nothing", "/authorize/more", "x"):
        page = httpx.get(f"{provider.inside}{path}")
        assert page.status_code == 404
        assert "no such page" in page.text
    assert httpx.get(f"{provider.inside}/token").json()["error"] == "invalid_request"
    assert httpx.put(f"{provider.inside}/login").status_code == 405


def test_https_issuer_behind_a_proxy_gets_secure_cookies(tmp_path: Path) -> None:
    running = RunningProvider(tmp_path, {"issuer": "https://localhost/base/services/identity"})
    running.start()
    try:
        page = Browser(running).authorize(pkce()[1])
        (cookie,) = page.headers.get_list("Set-Cookie")
        assert cookie.startswith("__Secure-tidehub-identity-form-")
        attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"secure", "httponly", "samesite=lax", "path=/base/services/identity"} <= attributes
        described = httpx.get(f"{running.inside}/.well-known/openid-configuration").json()
        assert described["token_endpoint"] == "https://localhost/base/services/identity/token"
    finally:
        assert running.stop() == 0, running.log


def test_log_holds_no_secret(provider: RunningProvider) -> None:
    browser = Browser(provider)
    verifier, challenge = pkce()
    answer = browser.submit(browser.authorize(challenge), "alice", provider.passwords["alice"])
    code = parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]
    tokens = provider.redeem(code, verifier)
    browser.http.get(f"{provider.inside}/logout", params={"id_token_hint": str(tokens["id_token"])})
    httpx.get(f"{provider.inside}/token", params={"code": code})
    httpx.get(f"{provider.inside}/nothing", params={"code": code})
    log = provider.log
    assert "GET /services/identity/authorize 200" in log
    secrets_seen = [
        code,
        verifier,
        challenge,
        *provider.passwords.values(),
        HUB_SECRET,
        "the+state",
    ]
    secrets_seen += [str(tokens[name]) for name in ("access_token", "refresh_token", "id_token")]
    secrets_seen += [cookie.value for cookie in browser.http.cookies.jar if cookie.value]
    for secret in secrets_seen:
        assert secret not in log
    assert "?" not in log
    assert "Traceback" not in log
