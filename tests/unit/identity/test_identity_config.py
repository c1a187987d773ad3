from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tidehub.errors import UsageError
from tidehub.identity.config import IdentityConfig, load_config, origin_of


def config(**changes: Any) -> dict[str, Any]:
    return {
        "issuer": "http://127.0.0.1:8000/services/identity",
        "listen": {"host": "127.0.0.1", "port": 8001},
        "state_dir": "/nonexistent",
        "site_name": "Site",
        "client": client(),
        **changes,
    }


def client(**changes: Any) -> dict[str, Any]:
    base = {
        "client_id": "hub",
        "client_secret": "sixteen-characters",
        "redirect_uri": "http://127.0.0.1:8000/hub/oauth_callback",
    }
    return {**base, **changes}


def load(tmp_path: Path, data: dict[str, Any]) -> IdentityConfig:
    path = tmp_path / "identity.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(data))
    return load_config(path)


def test_defaults(tmp_path: Path) -> None:
    loaded = load(tmp_path, config())
    lifetimes = loaded.lifetimes
    assert (lifetimes.code, lifetimes.access, lifetimes.refresh) == (60, 3600, 30 * 86400)
    assert loaded.prefix == "/services/identity"
    assert loaded.origin == "http://127.0.0.1:8000"
    assert loaded.secure is False
    assert loaded.client.client_secret.get_secret_value() == "sixteen-characters"
    assert "sixteen" not in repr(loaded)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"issuer": "http://127.0.0.1/x/"}, "must not end with /"),
        ({"issuer": "http://127.0.0.1/x?y"}, "must not have a query"),
        ({"issuer": "http://127.0.0.1/a;b"}, "plain"),
        ({"issuer": "/services/identity"}, "absolute"),
        ({"issuer": "http://hub.example.org/x"}, "must use https"),
        ({"issuer": "http://user@127.0.0.1/x"}, "without a fragment or a user name"),
        ({"listen": {"host": "127.0.0.1", "port": 0}}, "listen.port"),
        ({"site_name": ""}, "site_name"),
        ({"trusted_proxies": ["nonsense"]}, "trusted_proxies"),
        ({"lifetimes": {"code": 0}}, "lifetimes.code"),
        ({"surprise": 1}, "surprise"),
        ({"clients": []}, "clients"),
        ({"client": client(client_secret="sixteen")}, "16 characters"),
        ({"client": client(client_secret="sixteen:characters")}, "16 characters"),
        ({"client": client(client_secret=None)}, "client.client_secret"),
        ({"client": client(client_id="a:b")}, "client.client_id"),
        ({"client": client(redirect_uri="")}, "redirect_uri"),
        ({"client": client(redirect_uri="javascript:alert(1)")}, "absolute"),
        ({"client": client(redirect_uri="http://hub.example.org/cb")}, "must use https"),
        ({"client": client(redirect_uri="https://hub.example.org/cb#x")}, "fragment"),
        ({"client": client(post_logout_redirect_uris=["http://[x/"])}, "post_logout_redirect_uris"),
    ],
)
def test_faults_are_named_without_secrets(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, config(**changes))
    assert words in str(caught.value)
    assert "sixteen" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"listen": {"host": "0.0.0.0", "port": 1}},
        {"listen": {"host": "10.0.0.1", "port": 1}},
        {"listen": {"host": "::", "port": 1}},
        {"issuer": "https://hub.example.org/services/identity"},
    ],
)
def test_public_use_needs_the_flag(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="for trying out"):
        load(tmp_path, config(**changes))
    assert load(tmp_path, config(**changes, allow_public=True)).allow_public


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Hub.example.org:443/x", "https://hub.example.org"),
        ("http://[::1]:8000/x", "http://[::1]:8000"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
    ],
)
def test_origin(url: str, origin: str) -> None:
    assert origin_of(url) == origin
