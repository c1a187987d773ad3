from __future__ import annotations

from dataclasses import fields

import pytest
from cryptography.fernet import Fernet

from tidehub.errors import UsageError
from tidehub.local.secrets import DECLARED, PlatformSecrets
from tidehub.secrets.declared import BY_NAME, SECRETS, Kept, find, kept_by, nearest
from tidehub.secrets.placeholders import is_placeholder
from tidehub.secrets.shapes import FERNET_KEY


def test_names_are_unique_and_each_secret_goes_somewhere() -> None:
    assert len(BY_NAME) == len(SECRETS)
    for declared in SECRETS:
        assert declared.kept
        assert declared.parts
        assert all(declared.goes(owner) for owner in declared.kept), declared.name
        assert declared.purpose[0].islower()


def test_the_platforms_secrets_are_the_declared_ones() -> None:
    names = {field.name for field in fields(PlatformSecrets)} - {"older"}
    assert names == {declared.name for declared in kept_by(Kept.STATE)} == set(DECLARED)


@pytest.mark.parametrize("declared", [one for one in SECRETS if not one.given], ids=lambda one: one.name)
def test_what_is_made_has_its_own_shape_and_is_no_placeholder(declared: object) -> None:
    shape = BY_NAME[declared.name].shape  # type: ignore[attr-defined]
    made = {shape.make() for _ in range(200)}
    assert len(made) == 200
    assert all(shape.fits(value) and not is_placeholder(value) for value in made)


def test_a_fernet_key_is_one() -> None:
    assert FERNET_KEY.make
    Fernet(FERNET_KEY.make())


def test_the_token_between_hub_and_gateway_goes_to_both_releases() -> None:
    places = {(value.release, value.dotted) for value in BY_NAME["gateway_token"].charts}
    assert places == {
        ("jupyterhub", "hub.services.dask-gateway.apiToken"),
        ("dask-gateway", "gateway.auth.jupyterhub.apiToken"),
    }


def test_what_a_state_keeps_is_not_taken_from_the_site() -> None:
    cookie = BY_NAME["hub_cookie_secret"]
    assert cookie.machine_of(Kept.SITE) is None
    assert cookie.machine_of(Kept.STATE) == "JupyterHub.cookie_secret"
    assert BY_NAME["client_secret"].machine_of(Kept.SITE) == "the hub's environment"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("client_secet", "client_secret"),
        ("client-secret", "client_secret"),
        ("CLIENT_SECRET", "client_secret"),
        ("hub.crypt.key", "hub_crypt_key"),
        ("cookie_secret", "hub_cookie_secret"),
        ("gateway_tokens", "gateway_token"),
        ("zebra", None),
    ],
)
def test_the_nearest_name(written: str, meant: str | None) -> None:
    assert nearest(written, BY_NAME) == meant


@pytest.mark.parametrize(
    ("name", "owner", "words"),
    [
        ("clientsecret", Kept.SITE, "did you mean client_secret"),
        ("culler_token", Kept.SITE, "add --state DIR"),
        ("client_secret", Kept.STATE, "leave --state out"),
        ("culler_tokens", Kept.STATE, "did you mean culler_token"),
    ],
)
def test_a_wrong_name_is_refused_with_what_to_do(name: str, owner: Kept, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        find(name, owner)
    assert words in str(refused.value)


def test_several_keys_in_one_text() -> None:
    assert BY_NAME["hub_crypt_key"].pieces("a; b\nc\n") == ["a", "b", "c"]
    assert BY_NAME["client_secret"].pieces("a;b") == ["a;b"]
