from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from identity_server import GOOD, URI, Hub
from oauthlib.oauth2 import FatalClientError

from tidehub.identity.protocol import parse_parameters, unique, with_parameters


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    opened = Hub(tmp_path_factory.mktemp("identity") / "state")
    yield opened
    opened.accounts.close()


def test_good_request(hub: Hub) -> None:
    back = hub.authorize(scope="openid email openid", display="popup")
    assert set(back) == {"x", "code", "state"}
    tokens = hub.redeem(back["code"])
    assert tokens["scope"] == "openid email"
    assert set(tokens) == {"access_token", "token_type", "expires_in", "scope", "id_token", "status"}


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("scope", "openid admin", "invalid_scope"),
        ("scope", "profile", "invalid_scope"),
        ("scope", "", "invalid_scope"),
        ("scope", 'openid "quoted\\ \n', "invalid_scope"),
        ("code_challenge", "c" * 42, "invalid_request"),
        ("code_challenge", "c" * 42 + "=", "invalid_request"),
        ("code_challenge", "", "invalid_request"),
        ("code_challenge_method", "s256", "invalid_request"),
        ("code_challenge_method", "plain", "invalid_request"),
        ("code_challenge_method", "", "invalid_request"),
        ("response_type", "token", "unsupported_response_type"),
        ("response_type", "none", "unsupported_response_type"),
        ("response_type", "code id_token", "unsupported_response_type"),
        ("response_mode", "fragment", "invalid_request"),
        ("response_mode", "form_post", "invalid_request"),
        ("max_age", "0", "invalid_request"),
        ("nonce", "n" * 1025, "invalid_request"),
        ("prompt", "none", "invalid_request"),
        ("prompt", "create", "invalid_request"),
        ("id_token_hint", "x", "invalid_request"),
        ("claims", "[" * 10_000, "invalid_request"),
        ("registration", "{}", "registration_not_supported"),
        ("request", "e30.", "request_not_supported"),
        ("request_uri", "https://evil.example", "request_uri_not_supported"),
    ],
)
def test_bad_values_go_back_in_characters_that_are_allowed(
    hub: Hub, name: str, value: str, error: str
) -> None:
    back = hub.authorize(**{name: value})
    assert "code" not in back
    assert (back["error"], back["state"]) == (error, "s")
    assert re.fullmatch(r"[\x20-\x21\x23-\x5b\x5d-\x7e]*", back.get("error_description", ""))


@pytest.mark.parametrize("name", ["nonce", "code_challenge", "code_challenge_method", "response_mode"])
def test_parameter_given_twice_goes_back(hub: Hub, name: str) -> None:
    back = hub.server.create_authorization_response(f"/authorize?{urlencode(GOOD)}&{name}=S256")
    assert "error=invalid_request" in back[0]["Location"]


@pytest.mark.parametrize("name", ["client_id", "redirect_uri", "state", "scope", "response_type"])
def test_what_says_where_to_go_and_who_asks_comes_once(hub: Hub, name: str) -> None:
    with pytest.raises(FatalClientError):
        hub.server.create_authorization_response(f"/authorize?{urlencode(GOOD)}&{name}=code")


@given(st.dictionaries(st.sampled_from([*GOOD, "prompt", "max_age", "x"]), st.text(max_size=20)))
def test_nothing_but_the_registered_address_is_ever_used(hub: Hub, changes: dict[str, str]) -> None:
    """`Hub.authorize` asserts where the browser is sent."""
    try:
        hub.authorize(**changes)
    except FatalClientError:
        assert changes.keys() & {"client_id", "redirect_uri"}


def test_parameters() -> None:
    assert parse_parameters("a=1&b=&c=%20x+y") == [("a", "1"), ("c", " x y")]
    for broken in ("a=%ff", b"a=\xff", "&".join("a=b" for _ in range(51))):
        with pytest.raises(ValueError):
            parse_parameters(broken)
    with pytest.raises(ValueError, match="a comes more than once"):
        unique([("a", "1"), ("a", "1")])


def test_with_parameters() -> None:
    assert with_parameters("https://x/", [("a", "x y&")]) == "https://x/?a=x+y%26"
    assert with_parameters(URI, [("a", "b")]) == f"{URI}&a=b"
    assert with_parameters(URI, []) == URI
