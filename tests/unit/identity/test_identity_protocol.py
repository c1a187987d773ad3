from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidehub.identity.config import ClientConfig
from tidehub.identity.protocol import (
    Client,
    OAuthError,
    RefusedBack,
    RefusedHere,
    authenticate,
    parse_authorization,
    parse_parameters,
    printable,
    unique,
    with_parameters,
)

URI = "https://hub.example.org/cb"
CLIENTS = {
    "hub": Client.load(
        ClientConfig.model_validate(
            {
                "client_id": "hub",
                "client_secret": "a+secret/with%20signs",
                "redirect_uris": [URI],
                "scopes": ["openid", "email"],
            }
        )
    )
}
GOOD = {
    "client_id": "hub",
    "redirect_uri": URI,
    "response_type": "code",
    "scope": "openid email openid",
    "code_challenge": "c" * 43,
    "code_challenge_method": "S256",
}


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_good_request() -> None:
    request = parse_authorization(
        list({**GOOD, "state": "s", "prompt": "login select_account", "max_age": "7"}.items()), CLIENTS
    )
    assert request.scopes == ("openid", "email")
    assert request.prompt == {"login", "select_account"}
    assert (request.max_age, request.state, request.nonce) == (7, "s", None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scope", "openid voperson_id"),
        ("scope", 'openid "quoted\\ \n'),
        ("code_challenge", "c" * 42),
        ("code_challenge", "c" * 42 + "="),
        ("code_challenge_method", "s256"),
        ("max_age", "٣"),
        ("max_age", "1" * 10),
        ("nonce", "n" * 1025),
        ("prompt", "create"),
        ("registration", "{}"),
    ],
)
def test_bad_values_go_back_in_characters_that_are_allowed(name: str, value: str) -> None:
    with pytest.raises(RefusedBack) as caught:
        parse_authorization(list({**GOOD, name: value, "state": "s"}.items()), CLIENTS)
    assert caught.value.redirect_uri == URI
    assert caught.value.state == "s"
    assert re.fullmatch(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+", caught.value.description)


def test_state_given_twice_is_not_passed_on() -> None:
    with pytest.raises(RefusedBack) as caught:
        parse_authorization([*GOOD.items(), ("state", "a"), ("state", "b")], CLIENTS)
    assert caught.value.state is None


@given(st.dictionaries(st.sampled_from([*GOOD, "state", "prompt", "max_age", "x"]), st.text(max_size=20)))
def test_nothing_but_the_registered_address_is_ever_used(changes: dict[str, str]) -> None:
    try:
        request = parse_authorization(list({**GOOD, **changes}.items()), CLIENTS)
    except RefusedHere:
        assert changes.keys() & {"client_id", "redirect_uri"}
    except RefusedBack as refusal:
        assert refusal.redirect_uri == URI
    else:
        assert request.redirect_uri == URI


def test_parameters() -> None:
    assert parse_parameters("a=1&b=&c=%20x+y") == [("a", "1"), ("c", " x y")]
    for broken in ("a=%ff", b"a=\xff", "&".join("a=b" for _ in range(51))):
        with pytest.raises(ValueError):
            parse_parameters(broken)
    with pytest.raises(OAuthError, match="a comes more than once"):
        unique([("a", "1"), ("a", "1")])


@pytest.mark.parametrize(
    ("authorization", "form"),
    [
        (basic("hub:a+secret/with%20signs"), {}),
        (basic("hub:a%2Bsecret%2Fwith%2520signs"), {}),
        (basic("hub:a%2Bsecret%2Fwith%2520signs"), {"client_id": "hub"}),
        (None, {"client_id": "hub", "client_secret": "a+secret/with%20signs"}),
    ],
)
def test_client_authentication(authorization: str | None, form: dict[str, str]) -> None:
    assert authenticate(authorization, form, CLIENTS) is CLIENTS["hub"]


@pytest.mark.parametrize(
    ("authorization", "form", "error"),
    [
        (None, {}, "invalid_client"),
        (None, {"client_id": "hub"}, "invalid_client"),
        (None, {"client_id": "nobody"}, "invalid_client"),
        (basic("hub:"), {}, "invalid_client"),
        (basic("hub"), {}, "invalid_client"),
        ("Basic ???", {}, "invalid_client"),
        ("Basic", {}, "invalid_client"),
        (basic("hub:%ff"), {}, "invalid_client"),
        ("Bearer a+secret/with%20signs", {}, "invalid_client"),
        (basic("hub:a+secret/with%20signs"), {"client_id": "other"}, "invalid_request"),
        (basic("hub:a+secret/with%20signs"), {"client_secret": "x"}, "invalid_request"),
    ],
)
def test_client_refusals(authorization: str | None, form: dict[str, str], error: str) -> None:
    with pytest.raises(OAuthError) as caught:
        authenticate(authorization, form, CLIENTS)
    assert caught.value.error == error
    assert caught.value.status == (401 if error == "invalid_client" else 400)


def test_with_parameters() -> None:
    assert with_parameters(URI, {"a": "x y&", "b": None}) == f"{URI}?a=x+y%26"
    assert with_parameters(URI + "?q=1", {"a": "b"}) == f"{URI}?q=1&a=b"
    assert with_parameters(URI, {"a": None}) == URI


def test_printable() -> None:
    assert printable('a"\\\nü') == "a????"
    assert len(printable("x" * 1000)) == 200
