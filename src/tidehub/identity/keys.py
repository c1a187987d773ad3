"""The signing key: RS256, kept in one private file and published as JWKS (RFC 7517)."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import RSAAlgorithm

from tidehub.errors import Place, TidehubError
from tidehub.identity.private_files import read_private
from tidehub.system.files import write_private

FILE_NAME = "signing-keys.json"
ALGORITHM = "RS256"
KEY_BITS = 2048


class SigningKey:
    """The key below `state_dir`."""

    def __init__(self, state_dir: Path) -> None:
        """Read the key, or make it. Raises `TidehubError` when the file is damaged."""
        path = state_dir / FILE_NAME
        if not path.exists():
            key = RSAAlgorithm.to_jwk(generate_private_key(65537, KEY_BITS), as_dict=True)
            key |= {"kid": secrets.token_hex(16), "use": "sig", "alg": ALGORITHM}
            write_private(path, json.dumps({"keys": [key]}, indent=1) + "\n")
        text = read_private(path, "The file of the signing key")
        try:
            first = json.loads(text)["keys"][0]
            # Until 2026.11 a key stood beside its state: {"key": {...}, "active": true}, the active one first.
            key = first.get("key", first)
            private = RSAAlgorithm.from_jwk(key)
            if not isinstance(private, RSAPrivateKey):
                raise ValueError("not a private key")
            self._public = {name: str(key[name]) for name in ("kty", "n", "e", "kid", "use", "alg")}
        except (jwt.PyJWTError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise TidehubError(
                "The file of the signing key is damaged.",
                where=Place(str(path)),
                fix="restore it from a backup, or remove it: a new key is made, and users sign in again",
            ) from None
        self._private = private

    def jwks(self) -> dict[str, Any]:
        """What is published: the public part alone."""
        return {"keys": [self._public]}

    def sign(self, claims: dict[str, Any]) -> str:
        """A compact JWS of `claims`."""
        return jwt.encode(claims, self._private, ALGORITHM, headers={"kid": self._public["kid"]})

    def verified(self, token: str, *, issuer: str, audience: str) -> dict[str, Any] | None:
        """The claims of an ID token that this key signed for that audience, expired or not; or None."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._private.public_key(),
                algorithms=[ALGORITHM],
                issuer=issuer,
                audience=audience,
                options={"verify_exp": False, "verify_iat": False, "require": ["iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            return None
        return claims
