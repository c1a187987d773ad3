"""The attack table of the login. Each attack: nobody gets in, and the hub's log says in one line why.

Codes and sessions are attacked at the embedded provider, ID tokens and claims by a hostile one. The hub under attack
runs the login's text, as on Kubernetes; one machine runs the same class.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest
from bare_hub import BareHub
from hostile_provider import CLIENT, SECRET, HostileProvider
from identity_process import (
    GROUP,
    HUB,
    HUB_SECRET,
    RunningProvider,
    free_port,
    hidden_fields,
)
from joserfc.jwk import RSAKey

pytestmark = pytest.mark.real
MEMBER = GROUP.partition("#")[0]


class Visitor:
    """A browser at the hub that follows nothing by itself."""

    def __init__(self, hub: BareHub) -> None:
        self.hub = hub
        self.http = httpx.Client(timeout=30, headers={"X-Forwarded-For": "203.0.113.7"})

    def begin(self, **query: str) -> str:
        """The address at the provider that the hub sends this browser to."""
        answer = self.http.get(f"{self.hub.url}hub/oauth_login", params=query)
        assert answer.status_code == 302, answer.text
        return str(answer.headers["Location"])

    def arrive(self, address: str) -> httpx.Response:
        """Comes back to the hub with the provider's answer."""
        return self.http.get(address)

    def is_in(self) -> bool:
        return self.http.get(f"{self.hub.url}hub/api/user").status_code == 200


def refused(hub: BareHub, answer: httpx.Response, visitor: Visitor, words: str, already: int = 0) -> None:
    """4xx with a page, nobody in, a line in the log that says why, nothing secret in it."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)
    assert (
        "sign in again" in answer.text.lower()
        or "sign in with another" in answer.text.lower()
        or ("signed in as" in answer.text.lower())
    ), answer.text
    assert not visitor.is_in()
    fresh = hub.log[already:]
    assert words in fresh, fresh[-3000:]
    assert SECRET not in fresh and HUB_SECRET not in fresh
    for line in fresh.splitlines():
        assert "code=" not in line or "code=[" in line, line
        assert "eyJ" not in line, line


# --- codes and state, at the embedded provider --------------------------------------------------


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProvider]:
    directory = tmp_path_factory.mktemp("identity")
    port = free_port()
    callback = f"http://127.0.0.1:{port}/x/hub/oauth_callback"
    client = {"client_id": HUB, "client_secret": HUB_SECRET, "redirect_uri": callback}
    running = RunningProvider(directory, {"client": client, "lifetimes": {"code": 2}})
    running.hub_port = port  # type: ignore[attr-defined]
    running.make_accounts()
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def hub(embedded: RunningProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareHub]:
    login = {"allow": {"groups": [MEMBER]}, "scopes": ["openid", "profile", "entitlements"]}
    port = embedded.hub_port  # type: ignore[attr-defined]
    running = BareHub(
        tmp_path_factory.mktemp("hub"), embedded.issuer, (HUB, HUB_SECRET), login, base="/x/", port=port
    )
    running.start()
    yield running
    running.stop()


def at_provider(visitor: Visitor, provider: RunningProvider, address: str, name: str = "alice") -> str:
    """Signs in at the provider; the address with which it sends the browser back."""
    page = visitor.http.get(address)
    fields = {**hidden_fields(page.text), "username": name, "password": provider.passwords[name]}
    answer = visitor.http.post(f"{provider.inside}/login", data=fields)
    assert answer.status_code in (302, 303), answer.text
    return str(answer.headers["Location"])


def replaced(address: str, **changes: str | None) -> str:
    parts = urlsplit(address)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    query |= {name: value for name, value in changes.items() if value is not None}
    for name, value in changes.items():
        if value is None:
            del query[name]
    return parts._replace(query="&".join(f"{n}={quote(v, safe='')}" for n, v in query.items())).geturl()


def test_the_honest_way_works(hub: BareHub, embedded: RunningProvider) -> None:
    visitor = Visitor(hub)
    answer = visitor.arrive(at_provider(visitor, embedded, visitor.begin()))
    assert answer.status_code == 302 and visitor.is_in()


def test_forged_code(hub: BareHub) -> None:
    visitor = Visitor(hub)
    state = parse_qs(urlsplit(visitor.begin()).query)["state"][0]
    address = f"{hub.callback}?code=forged&state={quote(state)}&iss={quote(hub.issuer, safe='')}"
    already = len(hub.log)
    refused(hub, visitor.arrive(address), visitor, "the token endpoint answered 400 invalid_grant", already)


def test_replayed_code(hub: BareHub, embedded: RunningProvider) -> None:
    """The thief replays the victim's whole answer, cookies of the moment included."""
    victim = Visitor(hub)
    begun = victim.begin()
    thief = Visitor(hub)
    thief.http.cookies = httpx.Cookies(victim.http.cookies)
    back = at_provider(victim, embedded, begun)
    assert victim.arrive(back).status_code == 302
    already = len(hub.log)
    refused(hub, thief.arrive(back), thief, "answered 400 invalid_grant", already)


def test_stolen_code_in_the_thiefs_own_browser(hub: BareHub, embedded: RunningProvider) -> None:
    """Code injection: the victim's code with the thief's own state and cookie. PKCE refuses."""
    victim, thief = Visitor(hub), Visitor(hub)
    code = parse_qs(urlsplit(at_provider(victim, embedded, victim.begin())).query)["code"][0]
    state = parse_qs(urlsplit(thief.begin()).query)["state"][0]
    address = f"{hub.callback}?code={code}&state={quote(state)}&iss={quote(hub.issuer, safe='')}"
    already = len(hub.log)
    refused(hub, thief.arrive(address), thief, "answered 400 invalid_grant", already)


def test_code_of_another_client(hub: BareHub, embedded: RunningProvider) -> None:
    visitor = Visitor(hub)
    back = at_provider(visitor, embedded, visitor.begin())
    embedded.hand_over("codes", parse_qs(urlsplit(back).query)["code"][0])
    already = len(hub.log)
    refused(hub, visitor.arrive(back), visitor, "answered 400 invalid_grant", already)


def test_expired_code(hub: BareHub, embedded: RunningProvider) -> None:
    visitor = Visitor(hub)
    back = at_provider(visitor, embedded, visitor.begin())
    time.sleep(2.5)  # the provider's clock, not an event: its codes live two seconds
    already = len(hub.log)
    refused(hub, visitor.arrive(back), visitor, "answered 400 invalid_grant", already)


def test_wrong_state(hub: BareHub, embedded: RunningProvider) -> None:
    visitor = Visitor(hub)
    back = at_provider(visitor, embedded, visitor.begin())
    other = base64.urlsafe_b64encode(json.dumps({"state_id": "0" * 32}).encode()).decode()
    already = len(hub.log)
    refused(hub, visitor.arrive(replaced(back, state=other)), visitor, "OAuth state mismatch", already)


@pytest.mark.parametrize("state", ["", "%00", "e30=", "null", "W10=", "\u00e4"])
def test_odd_state(hub: BareHub, embedded: RunningProvider, state: str) -> None:
    visitor = Visitor(hub)
    back = at_provider(visitor, embedded, visitor.begin())
    already = len(hub.log)
    refused(hub, visitor.arrive(replaced(back, state=state)), visitor, "400 GET", already)


def test_login_csrf_without_the_cookie(hub: BareHub, embedded: RunningProvider) -> None:
    """The attacker sends the victim to the attacker's own finished sign-in."""
    attacker, victim = Visitor(hub), Visitor(hub)
    back = at_provider(attacker, embedded, attacker.begin(), "bob")
    already = len(hub.log)
    refused(hub, victim.arrive(back), victim, "OAuth state missing from cookies", already)


def test_tampered_state_cookie(hub: BareHub, embedded: RunningProvider) -> None:
    visitor = Visitor(hub)
    back = at_provider(visitor, embedded, visitor.begin())
    value = visitor.http.cookies["oauthenticator-state"]
    del visitor.http.cookies["oauthenticator-state"]
    visitor.http.cookies.set("oauthenticator-state", value[:-4] + "0000", path="/x/hub/")
    already = len(hub.log)
    refused(hub, visitor.arrive(back), visitor, "OAuth state missing from cookies", already)


def test_answer_of_another_issuer(hub: BareHub, embedded: RunningProvider) -> None:
    for changes, words in (
        ({"iss": "https://evil.example.org"}, "another issuer's"),
        ({"iss": None}, "no issuer"),
    ):
        visitor = Visitor(hub)
        back = replaced(at_provider(visitor, embedded, visitor.begin()), **changes)  # type: ignore[arg-type]
        already = len(hub.log)
        refused(hub, visitor.arrive(back), visitor, words, already)


def test_an_error_text_from_the_address_is_not_shown(hub: BareHub) -> None:
    visitor = Visitor(hub)
    visitor.begin()
    address = f"{hub.callback}?error=access_denied&error_description=Call+0900-EVIL&state=x"
    already = len(hub.log)
    answer = visitor.arrive(address)
    refused(hub, answer, visitor, "OAuth state mismatch", already)
    assert "EVIL" not in answer.text
    state = parse_qs(urlsplit(visitor.begin()).query)["state"][0]
    iss = quote(hub.issuer, safe="")
    for error, words in (("access_denied", "answered access_denied"), ("<b>x", "an unknown error code")):
        address = f"{hub.callback}?error={quote(error)}&error_description=EVIL&state={quote(state)}&iss={iss}"
        answer = visitor.arrive(address)
        refused(hub, answer, visitor, words, already)
        assert "EVIL" not in answer.text and "<b>x" not in answer.text
        state = parse_qs(urlsplit(visitor.begin()).query)["state"][0]


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example.org/",
        "//evil.example.org/",
        "///evil.example.org/",
        "/\\evil.example.org/",
        "\\\\evil.example.org",
        "https:evil.example.org",
        "/%09/evil.example.org",
        "/\t/evil.example.org",
        "/x/../..//evil.example.org",
        "javascript:alert(1)",
        "/other/hub/",
        "http://127.0.0.1@evil.example.org/",
    ],
)
def test_open_redirect(hub: BareHub, embedded: RunningProvider, target: str) -> None:
    visitor = Visitor(hub)
    answer = visitor.arrive(at_provider(visitor, embedded, visitor.begin(next=target)))
    assert answer.status_code == 302
    location = answer.headers["Location"]
    assert location.startswith("/x/") and not location.startswith("//") and "\\" not in location, location
    assert "evil" not in str(httpx.URL(hub.url).join(location).host)


def test_cookies_stay_below_the_base_path_and_the_hub(hub: BareHub, embedded: RunningProvider) -> None:
    visitor = Visitor(hub)
    begun = visitor.http.get(f"{hub.url}hub/oauth_login")
    ended = visitor.arrive(at_provider(visitor, embedded, begun.headers["Location"]))
    cookies = {
        header.partition("=")[0]: header.lower()
        for answer in (begun, ended)
        for header in answer.headers.get_list("set-cookie")
        if '=""' not in header  # a cookie that goes
    }
    # Notebook servers, which run users' own code, are below /x/user/: they are sent neither of these two.
    for name in ("oauthenticator-state", "jupyterhub-hub-login"):
        assert "path=/x/hub/" in cookies[name] and "httponly" in cookies[name], cookies[name]
    assert all("path=/x/" in header for header in cookies.values()), cookies


def test_a_cookie_of_another_hub_opens_nothing(
    hub: BareHub, embedded: RunningProvider, tmp_path_factory: pytest.TempPathFactory
) -> None:
    visitor = Visitor(hub)
    visitor.arrive(at_provider(visitor, embedded, visitor.begin()))
    assert visitor.is_in()
    neighbour = BareHub(
        tmp_path_factory.mktemp("neighbour"), embedded.issuer, (HUB, HUB_SECRET), {}, base="/y/"
    )
    neighbour.start()
    try:
        stolen = "; ".join(f"{cookie.name}={cookie.value}" for cookie in visitor.http.cookies.jar)
        answer = httpx.get(f"{neighbour.url}hub/api/user", headers={"Cookie": stolen})
        assert answer.status_code == 403
        assert "Invalid or expired cookie token" in neighbour.log
    finally:
        neighbour.stop()


# --- ID tokens and claims, by a hostile provider ------------------------------------------------


@pytest.fixture(scope="module")
def hostile() -> Iterator[HostileProvider]:
    provider = HostileProvider()
    yield provider
    provider.close()


@pytest.fixture(scope="module")
def target(hostile: HostileProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareHub]:
    login = {"allow": {"groups": [MEMBER]}, "admins": {"users": ["root"]}}
    running = BareHub(tmp_path_factory.mktemp("target"), hostile.issuer, (CLIENT, SECRET), login)
    running.start()
    yield running
    running.stop()


def sign_in(hub: BareHub) -> tuple[Visitor, httpx.Response]:
    visitor = Visitor(hub)
    back = visitor.http.get(visitor.begin()).headers["Location"]
    return visitor, visitor.arrive(back)


def without_signature(claims: dict[str, Any], algorithm: str) -> str:
    return f"{_part({'alg': algorithm})}.{_part(claims)}."


def _part(content: Any) -> str:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def by_public_key(provider: HostileProvider, claims: dict[str, Any]) -> str:
    head = f"{_part({'alg': 'HS256', 'kid': 'known'})}.{_part(claims)}"
    return f"{head}.{_part(hmac.new(provider.key.as_pem(private=False), head.encode(), hashlib.sha256).digest())}"


def tampered(provider: HostileProvider, claims: dict[str, Any]) -> str:
    head, _, signature = provider.sign(claims).split(".")
    return f"{head}.{_part({**claims, 'sub': 'root@op'})}.{signature}"


FOREIGN = RSAKey.generate_key(2048, {"kid": "known", "use": "sig"})
ID_TOKENS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "wrong key": (lambda p, c: p.sign(c, FOREIGN), {}, "signature is not the provider's"),
    "unknown key": (lambda p, c: p.sign(c, FOREIGN, kid="mine"), {}, "no key of the provider fits"),
    "alg none": (lambda p, c: without_signature(c, "none"), {}, "signed with alg none"),
    "alg None": (lambda p, c: without_signature(c, "None"), {}, "signed with alg None"),
    "HS256 with the public key": (by_public_key, {}, "signed with alg HS256"),
    "tampered sub": (tampered, {}, "signature is not the provider's"),
    "no ID token": (lambda p, c: None, {}, "sent no ID token"),
    "wrong issuer": (None, {"iss": "https://evil.example.org"}, "another issuer's"),
    "wrong audience": (None, {"aud": "another-hub"}, "another client (aud)"),
    "foreign party": (None, {"azp": "another-hub"}, "another client (azp)"),
    "expired": (None, {"exp": 1_000_000_000}, "it has expired"),
    "another nonce": (None, {"nonce": "of somebody else"}, "another sign-in (nonce)"),
    "no nonce": (None, {"nonce": None}, "another sign-in (nonce)"),
    "sub differs from userinfo": (None, {"sub": "2@op"}, "another user than the ID token"),
}


@pytest.mark.parametrize("attack", ID_TOKENS)
def test_id_token(hostile: HostileProvider, target: BareHub, attack: str) -> None:
    make, change, words = ID_TOKENS[attack]
    hostile.honest(entitlements=[MEMBER])
    hostile.change = change
    if make is not None:
        hostile.make = lambda claims: make(hostile, claims)
    already = len(target.log)
    visitor, answer = sign_in(target)
    refused(target, answer, visitor, words, already)
    assert "alice" not in target.names()


def test_another_issuers_code(hostile: HostileProvider, target: BareHub) -> None:
    hostile.honest(entitlements=[MEMBER])
    hostile.answer = {"iss": "https://honest.example.org"}
    already = len(target.log)
    visitor, answer = sign_in(target)
    refused(target, answer, visitor, "another issuer's (iss)", already)


@pytest.mark.parametrize("error", [(400, "invalid_grant"), (401, "invalid_client"), (403, "x y\nz")])
def test_a_refusing_token_endpoint(hostile: HostileProvider, target: BareHub, error: tuple[int, str]) -> None:
    hostile.honest(entitlements=[MEMBER])
    hostile.token_error = error
    already = len(target.log)
    visitor, answer = sign_in(target)
    refused(target, answer, visitor, f"the token endpoint answered {error[0]}", already)


GROUPS = {
    "no group at all": [],
    "capital letters in the group": [MEMBER.replace("vo.pangeo.eu", "VO.pangeo.eu")],
    "capital letters in the role": [MEMBER.replace("member", "Member")],
    "percent-encoded colon": [MEMBER.replace(":role", "%3Arole")],
    "percent-encoded letter": [MEMBER.replace("vo.pangeo", "v%6F.pangeo")],
    "two authorities": [MEMBER + "#aai.egi.eu#aai.egi.eu"],
    "group behind the #": [f"urn:mace:egi.eu:group:other.vo#{MEMBER}"],
    "empty authority": [MEMBER + "#"],
    "role before the group": ["urn:mace:egi.eu:role=member:group:vo.pangeo.eu"],
    "role in the middle": ["urn:mace:egi.eu:group:vo.pangeo.eu:role=member:sub"],
    "role without a name": ["urn:mace:egi.eu:group:vo.pangeo.eu:role="],
    "two roles": [MEMBER + ":role=other"],
    "another role": [MEMBER.replace("member", "vm_operator")],
    "a longer group": [MEMBER.replace("pangeo.eu", "pangeo.eu.evil.org")],
    "a look-alike group": [MEMBER.replace("pangeo", "pange\u043e")],
    "another namespace": [MEMBER.replace("mace:egi.eu", "mace:egi.eu.evil")],
    "a namespace in front": ["urn:mace:evil.org:group:x:urn:mace:egi.eu:group:vo.pangeo.eu:role=member"],
    "group twice": ["urn:mace:egi.eu:group:evil:group:vo.pangeo.eu:role=member"],
    "a subgroup of another": ["urn:mace:egi.eu:group:evil:vo.pangeo.eu:role=member"],
    "blanks": [f" {MEMBER}", f"{MEMBER}\n", MEMBER.replace(":role", ": role")],
    "a mapping": {"group": MEMBER},
    "numbers": [1, None, True, [MEMBER]],
    "several in one text": f"{MEMBER} {MEMBER}",
}


@pytest.mark.parametrize("trick", GROUPS)
@pytest.mark.parametrize("claim", ["entitlements", "eduperson_entitlement"])
def test_group_trick(hostile: HostileProvider, target: BareHub, trick: str, claim: str) -> None:
    hostile.honest(**{claim: GROUPS[trick]})
    already = len(target.log)
    visitor, answer = sign_in(target)
    refused(target, answer, visitor, "refused alice (1@op): ", already)
    assert "alice" not in target.names()


NAMES = {
    "missing": None,
    "empty": "",
    "blank": "   ",
    "parent": "..",
    "path": "../../etc/passwd",
    "root path": "/root",
    "inside a path": "al/../ice",
    "backslash": "al\\ice",
    "percent": "%2e%2e%2froot",
    "dot": ".",
    "hidden": ".ssh",
    "dash": "-rf",
    "service": "service:gateway",
    "newline": "alice\nroot",
    "zero": "alice\x00",
    "cyrillic": "\u0430lice",
    "kelvin sign": "ali\u212ae",
    "full width": "\uff41lice",
    "dotless": "al\u0131ce",
    "right to left": "alice\u202e",
    "256 characters": "a" * 256,
    "markup": "<script>alert(1)</script>",
    "a list": ["alice"],
    "a number": 7,
}


@pytest.mark.parametrize("trick", NAMES)
def test_user_name_trick(hostile: HostileProvider, target: BareHub, trick: str) -> None:
    hostile.honest(preferred_username=NAMES[trick], entitlements=[MEMBER])
    before = target.names()
    already = len(target.log)
    visitor, answer = sign_in(target)
    refused(target, answer, visitor, "no usable user name for 1@op", already)
    assert target.names() == before
    assert "<script>alert" not in answer.text


def test_a_name_of_255_characters_is_one_user(hostile: HostileProvider, target: BareHub) -> None:
    name = "a" * 255
    hostile.honest(preferred_username=name, entitlements=[MEMBER], sub="long@op")
    visitor, answer = sign_in(target)
    assert answer.status_code == 302 and visitor.is_in()
    assert name in target.names()


@pytest.mark.parametrize("sub", [None, "", 7, "s" * 256, ["1@op"]])
def test_odd_subjects(hostile: HostileProvider, target: BareHub, sub: Any) -> None:
    hostile.honest(entitlements=[MEMBER], sub=sub)
    already = len(target.log)
    visitor, answer = sign_in(target)
    refused(target, answer, visitor, "sign-in failed: ", already)


def test_somebody_elses_name(hostile: HostileProvider, target: BareHub) -> None:
    """A second subject claims a name that has a home here, in capitals for good measure; and an admin's name."""
    hostile.honest(preferred_username="carol", entitlements=[MEMBER], sub="carol@op")
    owner, answer = sign_in(target)
    assert owner.is_in()
    hostile.honest(preferred_username="CAROL", entitlements=[MEMBER], sub="thief@op")
    already = len(target.log)
    visitor, answer = sign_in(target)
    refused(target, answer, visitor, "refused thief@op: the user name carol belongs to carol@op", already)
    hostile.honest(preferred_username="root", entitlements=[MEMBER], sub="carol@op")
    visitor, answer = sign_in(target)
    record = visitor.http.get(f"{target.url}hub/api/user").json()
    assert (record["name"], record["admin"]) == ("carol", False)
