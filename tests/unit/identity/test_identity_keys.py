from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt as reference
from joserfc.jwk import KeySet, RSAKey

from tidehub.errors import TidehubError
from tidehub.identity import keys
from tidehub.identity.keys import SigningKey

CLAIMS = {"iss": "https://op.example.org", "aud": "hub", "sub": "x"}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("keys")
    SigningKey(directory)
    return directory


def verified(key: SigningKey, token: str, **changes: str) -> dict[str, Any] | None:
    return key.verified(token, **{"issuer": CLAIMS["iss"], "audience": "hub", **changes})


def test_another_library_verifies_the_signature(state: Path) -> None:
    key = SigningKey(state)
    decoded = reference.decode(key.sign(CLAIMS), KeySet.import_key_set(key.jwks()), algorithms=["RS256"])  # type: ignore[arg-type]
    assert decoded.claims == CLAIMS
    assert decoded.header == {"alg": "RS256", "typ": "JWT", "kid": key.jwks()["keys"][0]["kid"]}


def test_key_persists_privately(state: Path) -> None:
    path = state / keys.FILE_NAME
    assert path.stat().st_mode & 0o777 == 0o600
    assert SigningKey(state).jwks() == SigningKey(state).jwks()
    assert set(SigningKey(state).jwks()["keys"][0]) == {"kty", "n", "e", "kid", "use", "alg"}
    assert verified(SigningKey(state), SigningKey(state).sign(CLAIMS)) == CLAIMS


def test_key_file_of_an_earlier_version_stays_in_use(tmp_path: Path) -> None:
    def entry(active: bool) -> dict[str, Any]:
        key = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)
        retired = None if active else 1.0
        return {"key": key.as_dict(private=active), "active": active, "retired": retired}

    path = tmp_path / keys.FILE_NAME
    path.touch(mode=0o600)
    entries = [entry(True), entry(False)]
    path.write_text(json.dumps({"keys": entries}))
    (published,) = SigningKey(tmp_path).jwks()["keys"]
    assert published == {name: entries[0]["key"][name] for name in published}
    assert verified(SigningKey(tmp_path), SigningKey(tmp_path).sign(CLAIMS)) == CLAIMS


def test_hint_may_be_expired_but_not_anybody_elses(state: Path) -> None:
    key = SigningKey(state)
    token = key.sign({**CLAIMS, "exp": 1, "iat": 0})
    assert verified(key, token) == {**CLAIMS, "exp": 1, "iat": 0}
    assert verified(key, token, audience="other") is None
    assert verified(key, token, issuer="https://evil.example.org") is None
    for name in CLAIMS:
        assert verified(key, key.sign({n: value for n, value in CLAIMS.items() if n != name})) is None


def signed_with_public_key(key: dict[str, str]) -> str:
    """HS256 with the published key as the secret; PyJWT refuses to make such a token."""

    def part(data: dict[str, str]) -> str:
        return base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")

    text = f"{part({'alg': 'HS256', 'kid': key['kid']})}.{part(CLAIMS)}"
    secret = jwt.PyJWK(key).key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signature = hmac.new(secret, text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def test_foreign_and_tampered_tokens_are_not_verified(state: Path, tmp_path: Path) -> None:
    key = SigningKey(state)
    foreign = SigningKey(tmp_path).sign(CLAIMS)
    head, _, signature = key.sign(CLAIMS).split(".")
    body = jwt.encode({**CLAIMS, "sub": "y"}, "k" * 32, algorithm="HS256").split(".")[1]
    unsigned = jwt.encode(CLAIMS, None, algorithm="none")
    confused = signed_with_public_key(key.jwks()["keys"][0])
    deep = base64.urlsafe_b64encode(b"[" * 40_000).decode().rstrip("=")
    tampered = f"{head}.{body}.{signature}"
    for token in (foreign, tampered, unsigned, confused, f"{deep}.{body}.x", "", "a.b", "é.é.é", "..", head):
        assert verified(key, token) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"keys": []}',
        '{"keys": [1]}',
        '{"keys": [{"active": true, "key": {"kty": "RSA"}}]}',
        "[" * 10**5,
    ],
)
def test_damaged_file_is_explained(tmp_path: Path, text: str) -> None:
    path = tmp_path / keys.FILE_NAME
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(TidehubError, match="damaged"):
        SigningKey(tmp_path)


@pytest.mark.parametrize("missing", ["d", "kid", "n"])
def test_half_a_key_is_damage(state: Path, tmp_path: Path, missing: str) -> None:
    (key,) = json.loads((state / keys.FILE_NAME).read_text())["keys"]
    path = tmp_path / keys.FILE_NAME
    path.touch(mode=0o600)
    path.write_text(json.dumps({"keys": [{name: value for name, value in key.items() if name != missing}]}))
    with pytest.raises(TidehubError, match="damaged"):
        SigningKey(tmp_path)
