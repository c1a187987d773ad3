from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tidehub.errors import TidehubError
from tidehub.identity import keys
from tidehub.identity.keys import SigningKeys, rotate


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("keys")
    SigningKeys(directory)
    return directory


def public(jwks: dict[str, list[dict[str, str]]]) -> dict[str, jwt.PyJWK]:
    return {key["kid"]: jwt.PyJWK(key) for key in jwks["keys"]}


def test_another_library_verifies_the_signature(state: Path) -> None:
    signing = SigningKeys(state)
    token = signing.sign({"sub": "x"})
    header = jwt.get_unverified_header(token)
    assert header["alg"] == "RS256"
    assert jwt.decode(token, public(signing.jwks())[header["kid"]].key, algorithms=["RS256"]) == {"sub": "x"}


def test_keys_persist_privately(state: Path) -> None:
    path = state / keys.FILE_NAME
    assert path.stat().st_mode & 0o777 == 0o600
    assert SigningKeys(state).jwks() == SigningKeys(state).jwks()
    for key in SigningKeys(state).jwks()["keys"]:
        assert set(key) == {"kty", "n", "e", "kid", "use", "alg"}


def test_rotation_is_noticed_and_the_old_key_still_verifies(tmp_path: Path) -> None:
    signing = SigningKeys(tmp_path)
    old = signing.sign({"sub": "old"})
    kid = rotate(tmp_path)
    new = signing.sign({"sub": "new"})
    assert jwt.get_unverified_header(new)["kid"] == kid
    assert [key["kid"] for key in signing.jwks()["keys"]] == [kid, jwt.get_unverified_header(old)["kid"]]
    assert signing.verified(old) == {"sub": "old"}
    stored = json.loads((tmp_path / keys.FILE_NAME).read_text())["keys"]
    assert ["d" in entry["key"] for entry in stored] == [True, False], "the old private part is gone"


def test_retired_keys_leave_after_their_time(tmp_path: Path) -> None:
    signing = SigningKeys(tmp_path)
    old = signing.sign({"sub": "old"})
    rotate(tmp_path, now=time.time() - keys.KEEP_RETIRED - 1)
    assert len(signing.jwks()["keys"]) == 1
    assert signing.verified(old) is None
    rotate(tmp_path)
    assert len(json.loads((tmp_path / keys.FILE_NAME).read_text())["keys"]) == 2


def signed_with_public_key(key: dict[str, str]) -> str:
    """HS256 with the published key as the secret; PyJWT refuses to make such a token."""

    def part(data: dict[str, str]) -> str:
        return base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")

    text = f"{part({'alg': 'HS256', 'kid': key['kid']})}.{part({'sub': 'x'})}"
    secret = jwt.PyJWK(key).key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signature = hmac.new(secret, text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def test_foreign_and_tampered_tokens_are_not_verified(state: Path, tmp_path: Path) -> None:
    signing = SigningKeys(state)
    foreign = SigningKeys(tmp_path).sign({"sub": "x"})
    head, _, signature = signing.sign({"sub": "x"}).split(".")
    body = jwt.encode({"sub": "y"}, "k" * 32, algorithm="HS256").split(".")[1]
    unsigned = jwt.encode({"sub": "x"}, None, algorithm="none")
    confused = signed_with_public_key(signing.jwks()["keys"][0])
    for token in (foreign, f"{head}.{body}.{signature}", unsigned, confused, "", "a.b", "é.é.é", "..", head):
        assert signing.verified(token) is None


@pytest.mark.parametrize(
    "text", ["", "{}", '{"keys": []}', '{"keys": [{"active": true, "key": {"kty": "RSA"}}]}']
)
def test_damaged_file_is_explained(tmp_path: Path, text: str) -> None:
    path = tmp_path / keys.FILE_NAME
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(TidehubError, match="damaged"):
        SigningKeys(tmp_path)


def test_public_key_alone_is_damage(state: Path, tmp_path: Path) -> None:
    entries = json.loads((state / keys.FILE_NAME).read_text())["keys"]
    entries[0]["key"] = SigningKeys(state).jwks()["keys"][0]
    path = tmp_path / keys.FILE_NAME
    path.touch(mode=0o600)
    path.write_text(json.dumps({"keys": entries}))
    with pytest.raises(TidehubError, match="damaged"):
        SigningKeys(tmp_path)
