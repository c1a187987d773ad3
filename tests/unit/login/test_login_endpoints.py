from __future__ import annotations

from typing import Any

import pytest

from tidehub.errors import TidehubError
from tidehub.login.endpoints import discovered, known_endpoints
from tidehub.site.model import Login

ISSUER = "https://op.example.org/realms/x"
GOOD: dict[str, Any] = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/auth",
    "token_endpoint": f"{ISSUER}/token",
    "userinfo_endpoint": f"{ISSUER}/userinfo",
    "jwks_uri": f"{ISSUER}/certs",
    "end_session_endpoint": f"{ISSUER}/logout",
}


def test_a_discovery_document_is_read() -> None:
    found = discovered(ISSUER, GOOD)
    assert (found.token_url, found.end_session_url) == (f"{ISSUER}/token", f"{ISSUER}/logout")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"issuer": "https://evil.example.org"}, "another issuer"),
        ({"token_endpoint": None}, "lacks token_endpoint"),
        ({"jwks_uri": "http://op.example.org/certs"}, "without https"),
    ],
)
def test_a_wrong_document_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(TidehubError, match=words):
        discovered(ISSUER, GOOD | change)


def test_check_in_is_known_by_heart() -> None:
    login = Login.model_validate(
        {"provider": "egi-check-in", "instance": "demo", "client_id": "x", "allow": {"everyone": True}}
    )
    known = known_endpoints(login)
    assert known is not None
    assert known.token_url == "https://aai-demo.egi.eu/auth/realms/egi/protocol/openid-connect/token"
