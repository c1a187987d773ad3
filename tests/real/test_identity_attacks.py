"""What an attacker tries on the real provider, and what they get."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from identity_process import (
    AFTER_LOGOUT,
    CALLBACK,
    HUB,
    HUB_SECRET,
    OTHER,
    OTHER_SECRET,
    SCOPE,
    Browser,
    RunningProvider,
    answer_of,
    hidden_fields,
    pkce,
    request_parameters,
)

from tidehub.identity.addresses import FRONT_HEADER, front_proof

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProvider]:
    running = RunningProvider(tmp_path_factory.mktemp("identity"))
    running.make_accounts()
    running.start()
    yield running
    running.stop()
    assert "Traceback" not in running.log


def redemption(code: str, verifier: str, changes: dict[str, str | None] | None = None) -> dict[str, str]:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": CALLBACK,
        "code_verifier": verifier,
        **(changes or {}),
    }
    return {name: value for name, value in form.items() if value is not None}


def refused(answer: httpx.Response, error: str, status: int = 400) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["error"] == error
    assert "access_token" not in answer.json()
    assert answer.headers["Cache-Control"] == "no-store"


# Codes


def test_forged_code(provider: RunningProvider) -> None:
    refused(provider.token(**redemption("forged", pkce()[0])), "invalid_grant")


def test_replayed_code_revokes_what_it_gave(provider: RunningProvider) -> None:
    code, verifier = Browser(provider).sign_in()
    tokens = provider.redeem(code, verifier)
    refused(provider.token(**redemption(code, verifier)), "invalid_grant")
    assert provider.userinfo(str(tokens["access_token"])).status_code == 401
    refresh = provider.token(grant_type="refresh_token", refresh_token=str(tokens["refresh_token"]))
    refused(refresh, "invalid_grant")


def test_expired_code(provider: RunningProvider) -> None:
    code, verifier = Browser(provider).sign_in()
    with sqlite3.connect(provider.state_dir / "identity.sqlite") as database:
        assert database.execute("UPDATE codes SET expires = expires - 61 WHERE NOT spent").rowcount >= 1
    refused(provider.token(**redemption(code, verifier)), "invalid_grant")


def test_code_of_another_client_is_useless_and_stays_the_owners(provider: RunningProvider) -> None:
    code, verifier = Browser(provider).sign_in()
    stolen = provider.token(auth=(OTHER, OTHER_SECRET), **redemption(code, verifier))
    refused(stolen, "invalid_client", 401)
    provider.hand_over("codes", code)
    refused(provider.token(**redemption(code, verifier)), "invalid_grant")
    provider.hand_over("codes", code, HUB)
    provider.redeem(code, verifier)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_verifier": "w" * 64}, "invalid_grant"),
        ({"code_verifier": "short"}, "invalid_grant"),
        ({"redirect_uri": CALLBACK + "/"}, "invalid_grant"),
    ],
)
def test_wrong_proof_spends_the_code(provider: RunningProvider, changes: dict[str, str], error: str) -> None:
    code, verifier = Browser(provider).sign_in()
    refused(provider.token(**redemption(code, verifier, changes)), error)
    refused(provider.token(**redemption(code, verifier)), "invalid_grant")


@pytest.mark.parametrize("missing", ["code", "redirect_uri", "code_verifier", "grant_type"])
def test_missing_parameters(provider: RunningProvider, missing: str) -> None:
    refused(provider.token(**redemption("code", "verifier", {missing: None})), "invalid_request")


@pytest.mark.parametrize(
    "auth", [None, (HUB, "wrong"), (HUB, ""), ("nobody", HUB_SECRET), (OTHER, HUB_SECRET)]
)
def test_wrong_client_credentials(provider: RunningProvider, auth: tuple[str, str] | None) -> None:
    code, verifier = Browser(provider).sign_in()
    answer = provider.token(auth=auth, **redemption(code, verifier))
    refused(answer, "invalid_client", 401)
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    provider.redeem(code, verifier)


def test_ambiguous_token_requests(provider: RunningProvider) -> None:
    both = provider.token(client_id=HUB, client_secret=HUB_SECRET, grant_type="refresh_token")
    refused(both, "invalid_request")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    url = f"{provider.inside}/token"
    twice = httpx.post(url, content="grant_type=a&grant_type=b", headers=form, auth=(HUB, HUB_SECRET))
    refused(twice, "invalid_request")
    refused(httpx.post(url, json={"grant_type": "refresh_token"}, auth=(HUB, HUB_SECRET)), "invalid_request")
    refused(httpx.post(url, content=b"a=\xff%ff", headers=form, auth=(HUB, HUB_SECRET)), "invalid_request")
    refused(provider.token(**redemption("code", "verifier"), client_id=OTHER), "invalid_client", 401)
    refused(provider.token(**redemption("code", "verifier", {"grant_type": "openid"})), "unauthorized_client")
    refused(provider.token(grant_type="password", username="a", password="b"), "unsupported_grant_type")
    refused(provider.token(grant_type="client_credentials"), "unsupported_grant_type")


# Refresh tokens


def test_reused_refresh_token_revokes_the_family(provider: RunningProvider) -> None:
    first = Browser(provider).tokens()
    second = provider.token(grant_type="refresh_token", refresh_token=str(first["refresh_token"])).json()
    assert provider.userinfo(second["access_token"]).status_code == 200
    again = provider.token(grant_type="refresh_token", refresh_token=str(first["refresh_token"]))
    refused(again, "invalid_grant")
    refused(
        provider.token(grant_type="refresh_token", refresh_token=second["refresh_token"]), "invalid_grant"
    )
    assert provider.userinfo(second["access_token"]).status_code == 401
    assert provider.userinfo(str(first["access_token"])).status_code == 401


def test_refresh_token_in_foreign_hands(provider: RunningProvider) -> None:
    token = str(Browser(provider).tokens()["refresh_token"])
    stolen = provider.token(auth=(OTHER, OTHER_SECRET), grant_type="refresh_token", refresh_token=token)
    refused(stolen, "invalid_client", 401)
    provider.hand_over("refresh_tokens", token)
    refused(provider.token(grant_type="refresh_token", refresh_token=token), "invalid_grant")
    provider.hand_over("refresh_tokens", token, HUB)
    more = provider.token(grant_type="refresh_token", refresh_token=token, scope="openid voperson_id")
    refused(more, "invalid_scope")
    assert provider.token(grant_type="refresh_token", refresh_token=token).status_code == 200


def test_one_kind_of_token_is_not_another(provider: RunningProvider) -> None:
    tokens = Browser(provider).tokens()
    for name in ("refresh_token", "id_token"):
        assert provider.userinfo(str(tokens[name])).status_code == 401
    refused(
        provider.token(grant_type="refresh_token", refresh_token=str(tokens["access_token"])), "invalid_grant"
    )


# Authorization requests


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": None},
        {"client_id": "unknown"},
        {"redirect_uri": None},
        {"redirect_uri": "https://evil.example/"},
        {"redirect_uri": CALLBACK + "/"},
        {"redirect_uri": CALLBACK + "?x=1"},
        {"redirect_uri": CALLBACK.upper()},
        {"redirect_uri": CALLBACK + "@evil.example"},
    ],
)
def test_nobody_is_sent_to_an_unregistered_address(
    provider: RunningProvider, changes: dict[str, str | None]
) -> None:
    answer = Browser(provider).authorize(pkce()[1], **changes)
    assert answer.status_code == 400
    assert "Location" not in answer.headers
    assert "not registered" in answer.text


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": "c" * 42 + "="}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_type": None}, "invalid_request"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"scope": "profile"}, "invalid_scope"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": "openid admin"}, "invalid_scope"),
        ({"prompt": "none"}, "invalid_request"),
        ({"prompt": "login"}, "invalid_request"),
        ({"max_age": "0"}, "invalid_request"),
        ({"id_token_hint": "forged"}, "invalid_request"),
        ({"claims": "[" * 5000}, "invalid_request"),
        ({"nonce": "n" * 1025}, "invalid_request"),
        ({"request": "e30."}, "request_not_supported"),
        ({"request_uri": "https://evil.example/r"}, "request_uri_not_supported"),
    ],
)
def test_bad_requests_go_back_with_a_reason(
    provider: RunningProvider, changes: dict[str, str | None], error: str
) -> None:
    browser = Browser(provider)
    browser.sign_in()
    answer = answer_of(browser.authorize(pkce()[1], **changes))
    assert answer["error"] == error
    assert answer["state"] == "the state"
    assert answer["iss"] == provider.issuer
    assert "code" not in answer


def test_parameters_given_twice(provider: RunningProvider) -> None:
    url = f"{provider.inside}/authorize"
    parameters = list(request_parameters(pkce()[1]).items())
    twice = httpx.get(url, params=[*parameters, ("nonce", "other")])
    assert answer_of(twice)["error"] == "invalid_request"
    assert httpx.get(url, params=[*parameters, ("redirect_uri", "https://evil.example/")]).status_code == 400
    assert httpx.get(url, params=[*parameters, ("client_id", OTHER)]).status_code == 400
    assert httpx.get(url + "?client_id=%ff").status_code == 400
    assert httpx.get(url + "?" + "a=b&" * 1000).status_code == 400


def test_frames_and_scripts_cannot_use_the_session(provider: RunningProvider) -> None:
    browser = Browser(provider)
    browser.sign_in()
    for headers in (
        {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe", "Sec-Fetch-Site": "same-origin"},
    ):
        browser.http.headers.update(headers)
        answer = browser.authorize(pkce()[1])
        assert answer.status_code == 403
        assert "Location" not in answer.headers


# The form


def test_access_token_counts_in_the_header_alone(provider: RunningProvider) -> None:
    token = str(Browser(provider).tokens()["access_token"])
    for answer in (
        httpx.get(f"{provider.inside}/userinfo", params={"access_token": token}),
        httpx.post(f"{provider.inside}/userinfo", data={"access_token": token}),
    ):
        refused(answer, "invalid_token", 401)


def test_parameters_cannot_stand_for_what_the_provider_knows(provider: RunningProvider) -> None:
    """oauthlib keeps its own findings beside the parameters of a request."""
    known = {"user": "bob", "session": "x", "client": OTHER, "scopes": "openid", "grant": "x", "body": "x"}
    browser = Browser(provider)
    code, verifier = browser.sign_in(**known)
    answer = provider.token(**redemption(code, verifier), **known, refresh_token="x", expires_in="9" * 9)
    assert answer.status_code == 200, answer.text
    tokens = answer.json()
    assert (tokens["scope"], tokens["expires_in"]) == (SCOPE, 3600)
    assert provider.userinfo(tokens["access_token"]).json()["preferred_username"] == "alice"
    again = provider.token(
        grant_type="refresh_token", refresh_token=tokens["refresh_token"], **known, response_type="id_token"
    )
    assert provider.userinfo(again.json()["access_token"]).json()["preferred_username"] == "alice"


def test_form_needs_its_token_and_its_cookie(provider: RunningProvider) -> None:
    browser, foreign = Browser(provider), Browser(provider)
    page = browser.authorize(pkce()[1])
    foreign_page = foreign.authorize(pkce()[1])
    password = provider.passwords["alice"]
    for changes in (
        {"form_token": ""},
        {"form_token": "0" * 64},
        {"form_token": hidden_fields(foreign_page.text)["form_token"]},
    ):
        answer = browser.submit(page, "alice", password, **changes)
        assert answer.status_code == 403
        assert "Location" not in answer.headers
    without_cookie = Browser(provider).submit(page, "alice", password)
    assert without_cookie.status_code == 403
    assert [name for name in without_cookie.cookies if "-form-" not in name] == [], "no session"
    # The form that is shown instead works.
    assert "code" in answer_of(
        browser.submit(browser.submit(page, "alice", password, form_token=""), "alice", password)
    )


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_form_sent_from_elsewhere(provider: RunningProvider, origin: str) -> None:
    browser = Browser(provider)
    page = browser.authorize(pkce()[1])
    browser.http.headers["Origin"] = origin
    answer = browser.submit(page, "alice", provider.passwords["alice"])
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers


def test_form_cannot_smuggle_another_request(provider: RunningProvider) -> None:
    browser = Browser(provider)
    page = browser.authorize(pkce()[1])
    kept = parse_qs(hidden_fields(page.text)["request"])
    for name, value in (("redirect_uri", "https://evil.example/"), ("client_id", "unknown")):
        changed = httpx.QueryParams({**{n: v[0] for n, v in kept.items()}, name: value})
        answer = browser.submit(page, "alice", provider.passwords["alice"], request=str(changed))
        assert answer.status_code == 400
        assert "Location" not in answer.headers
    plain = httpx.QueryParams({**{n: v[0] for n, v in kept.items()}, "code_challenge_method": "plain"})
    answer = browser.submit(page, "alice", provider.passwords["alice"], request=str(plain))
    assert answer_of(answer)["error"] == "invalid_request"


def test_session_is_new_after_each_sign_in(provider: RunningProvider) -> None:
    browser = Browser(provider)
    browser.sign_in()

    def session() -> str:
        (value,) = [c.value for c in browser.http.cookies.jar if "-form-" not in c.name]
        assert value is not None
        return value

    before = session()
    form = browser.http.get(f"{provider.inside}/")
    browser.submit(form, "alice", provider.passwords["alice"])
    assert session() != before
    name = next(c.name for c in browser.http.cookies.jar if "-form-" not in c.name)
    answer = httpx.get(
        f"{provider.inside}/authorize", params=request_parameters(pkce()[1]), cookies={name: before}
    )
    assert answer.status_code == 200, "the old session is gone: the form is shown"


def test_wrong_password_and_unknown_account_look_the_same(provider: RunningProvider) -> None:
    answers = []
    for username in ("nora", "nobody-of-this-name"):
        browser = Browser(provider)
        answers.append(browser.submit(browser.authorize(pkce()[1]), username, "wrong password"))
    known, unknown = answers
    assert known.status_code == unknown.status_code == 403
    assert "Wrong username or password" in known.text

    def message(answer: httpx.Response) -> str:
        return answer.text.split('role="alert"')[1].split("</div>")[0]

    assert message(known) == message(unknown)


# Throttling


def count_failures(provider: RunningProvider, kind: str, now: int, then: int) -> None:
    """More failures than the test makes, so that the delay outlasts a slow machine."""
    with sqlite3.connect(provider.state_dir / "identity.sqlite") as database:
        change = "UPDATE failures SET count = ? WHERE key LIKE ? AND count = ?"
        assert database.execute(change, (then, f"{kind}:%", now)).rowcount == 1


def test_guessing_one_account_from_many_claimed_addresses(provider: RunningProvider) -> None:
    """The address is the attacker's word here; the account's own delay holds all the same."""
    for number in range(5):
        if number == 4:
            count_failures(provider, "account", 4, 8)
        browser = Browser(provider, f"198.51.100.{number}")
        answer = browser.submit(browser.authorize(pkce()[1]), "rita", f"guess {number}")
        assert answer.status_code == 403
    assert "You can try again in 32 seconds" in answer.text
    assert answer.headers["Retry-After"] == "32"
    browser = Browser(provider, "198.51.100.99")
    answer = browser.submit(browser.authorize(pkce()[1]), " RITA ", provider.passwords["rita"])
    assert answer.status_code == 429
    assert "You can try again in" in answer.text
    assert 0 < int(answer.headers["Retry-After"]) <= 32


def test_spoofed_forwarded_for_does_not_escape_the_address_limit(provider: RunningProvider) -> None:
    """The proxy appends the address it saw; what the client wrote before it changes nothing."""
    for number in range(3):
        if number == 2:
            count_failures(provider, "address", 2, 24)
        browser = Browser(provider, f"192.0.2.{number}, 198.18.0.1")
        answer = browser.submit(browser.authorize(pkce()[1]), f"guess{number}", "guess")
        assert answer.status_code == 403, number
    browser = Browser(provider, "192.0.2.250, 198.18.0.1")
    page = browser.authorize(pkce()[1])
    assert browser.submit(page, "alice", provider.passwords["alice"]).status_code == 429
    elsewhere = Browser(provider, "198.18.0.1, 198.18.0.2")
    elsewhere.sign_in("alice")


def test_who_comes_past_the_proxy_has_one_address_whatever_they_say(provider: RunningProvider) -> None:
    """A user of this machine reaches the provider's port, and may write any header but the proof."""
    for number, proof in enumerate(["", "0" * 64, front_proof("another secret"), "x"]):
        browser = Browser(provider, f"192.0.2.{number}")
        browser.http.headers[FRONT_HEADER] = proof
        if number == 1:
            with sqlite3.connect(provider.state_dir / "identity.sqlite") as database:
                change = "UPDATE failures SET count = 24 WHERE key = 'address:unknown'"
                assert database.execute(change).rowcount == 1
        answer = browser.submit(browser.authorize(pkce()[1]), f"guess{number}", "guess")
        assert answer.status_code == (429 if number > 1 else 403), number
    # The address that they named is none the worse.
    Browser(provider, "192.0.2.1").sign_in("alice")


def test_users_of_this_machine_hold_up_themselves_and_not_one_another(provider: RunningProvider) -> None:
    """They share an address with everybody who comes through an SSH tunnel; the proxy in front knows their uid."""

    def browser_of(uid: str) -> Browser:
        browser = Browser(provider, "127.0.0.1")
        browser.http.headers[FRONT_HEADER] += f" {uid}"
        return browser

    for number in range(22):
        browser = browser_of("71001")
        answer = browser.submit(browser.authorize(pkce()[1]), f"guess{number}", "guess")
        assert answer.status_code == (429 if number > 20 else 403), number
    browser_of("71002").sign_in("alice")
    Browser(provider, "127.0.0.1").sign_in("alice")


# Signing out


@pytest.mark.parametrize(
    "changes",
    [
        {"post_logout_redirect_uri": "https://evil.example/"},
        {"post_logout_redirect_uri": AFTER_LOGOUT + "x"},
        {"post_logout_redirect_uri": CALLBACK},
        {"id_token_hint": "forged"},
        {"id_token_hint": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0."},
        {"client_id": OTHER},
        {"client_id": "unknown"},
    ],
)
def test_signing_out_is_no_open_redirect(provider: RunningProvider, changes: dict[str, str]) -> None:
    browser = Browser(provider)
    tokens = browser.tokens()
    parameters = {
        "id_token_hint": str(tokens["id_token"]),
        "post_logout_redirect_uri": AFTER_LOGOUT,
        **changes,
    }
    answer = browser.http.get(f"{provider.inside}/logout", params=parameters)
    assert answer.status_code == 400
    assert "Location" not in answer.headers
    assert "code" in answer_of(browser.authorize(pkce()[1])), "still signed in"


def test_post_logout_address_needs_a_client(provider: RunningProvider) -> None:
    browser = Browser(provider)
    browser.sign_in()
    for client in ({}, {"client_id": OTHER}):
        answer = browser.http.get(
            f"{provider.inside}/logout", params={"post_logout_redirect_uri": AFTER_LOGOUT, **client}
        )
        assert answer.status_code == 400


def test_signing_out_cannot_be_forced_by_a_form_elsewhere(provider: RunningProvider) -> None:
    browser = Browser(provider)
    browser.sign_in()
    answer = browser.http.post(f"{provider.inside}/logout", data={"form_token": "0" * 64})
    assert answer.status_code == 403
    assert "Sign out?" in browser.http.post(f"{provider.inside}/logout", data={"state": "x"}).text
    assert "code" in answer_of(browser.authorize(pkce()[1]))


def test_hint_of_one_user_does_not_sign_out_another(provider: RunningProvider) -> None:
    hint = str(Browser(provider).tokens("bob")["id_token"])
    browser = Browser(provider)
    browser.sign_in("alice")
    page = browser.http.get(f"{provider.inside}/logout", params={"id_token_hint": hint})
    assert "Sign out?" in page.text
    assert "code" in answer_of(browser.authorize(pkce()[1]))


# State and oversized input


def test_database_holds_no_secret(provider: RunningProvider) -> None:
    browser = Browser(provider)
    code, verifier = browser.sign_in()
    tokens = provider.redeem(code, verifier)
    cookies = [str(cookie.value) for cookie in browser.http.cookies.jar]
    known = [
        code,
        *cookies,
        *provider.passwords.values(),
        str(tokens["access_token"]),
        str(tokens["refresh_token"]),
    ]
    for path in provider.state_dir.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
        if path.name == "demo-accounts.json":
            assert set(json.loads(path.read_text())["passwords"]) == set(provider.passwords)
            continue
        content = path.read_bytes()
        for secret in known:
            assert secret.encode() not in content, path
    assert provider.state_dir.stat().st_mode & 0o777 == 0o700


def test_oversized_requests_are_refused(provider: RunningProvider) -> None:
    try:
        answer = httpx.post(f"{provider.inside}/login", data={"password": "x" * 200_000})
        assert answer.status_code in (400, 413)
    except httpx.TransportError:
        pass  # closing the connection is an answer too
    assert httpx.get(f"{provider.inside}/health").json() == {"status": "ok"}


def test_location_of_codes_is_the_registered_one_only(provider: RunningProvider) -> None:
    browser = Browser(provider)
    page = browser.authorize(pkce()[1], state="x\r\nSet-Cookie: a=b")
    answer = browser.submit(page, "alice", provider.passwords["alice"])
    assert answer_of(answer)["state"] == "x\r\nSet-Cookie: a=b"
    assert urlsplit(answer.headers["Location"]).netloc == urlsplit(CALLBACK).netloc
    assert "a" not in answer.cookies


def test_an_address_that_is_none_is_answered(provider: RunningProvider) -> None:
    with socket.create_connection(("127.0.0.1", provider.port), timeout=10) as one:
        one.sendall(b"GET //[ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert one.recv(100).startswith(b"HTTP/1.1 404")
    assert "Traceback" not in provider.log
