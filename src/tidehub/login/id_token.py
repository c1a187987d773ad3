"""The ID token of a login, verified by the identity provider's own keys (OpenID Connect Core 1.0, 3.1.3.7).

PyJWT, because the hub image of Kubernetes has it (oauthenticator needs it), and one class serves both targets.
This module imports nothing of ours: its text travels into that image.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import jwt

KEY_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
ALGORITHMS = frozenset(
    ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
)
"""Signatures with a public key. Neither `none` nor HMAC, whose key the client would share with the provider."""
LEEWAY = 60.0
"""Seconds by which two clocks may differ."""
LONGEST = 65536
FETCH_AGAIN_AFTER = 10.0
"""Seconds between two fetches for the sake of an unknown key: who invents key ids must not make us a hammer."""
KEYS_AGE = 3600.0
"""Seconds after which known keys are fetched anew, so that a withdrawn one is not believed for ever."""


class InvalidIdToken(ValueError):
    """An ID token that proves nothing. `str(error)` says why, for the log; it holds no part of the token."""


class KeySet:
    """The provider's public keys: fetched when needed, kept, fetched again for a key id that is unknown."""

    def __init__(
        self, fetch: Callable[[], Awaitable[Any]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._keys: list[Mapping[str, Any]] = []
        self._fetched = float("-inf")

    async def fitting(self, kid: str | None, algorithm: str) -> list[Mapping[str, Any]]:
        """The keys that may have made such a signature. Raises what `fetch` raises when there are none yet."""
        now = self._clock()
        if not self._keys or now - self._fetched > KEYS_AGE:
            await self._renew(required=not self._keys)
        found = self._among(kid, algorithm)
        if not found and self._clock() - self._fetched >= FETCH_AGAIN_AFTER:
            await self._renew(required=False)
            found = self._among(kid, algorithm)
        return found

    async def _renew(self, *, required: bool) -> None:
        try:
            document = await self._fetch()
        except Exception:
            # Keys that were good an hour ago outlive a provider that is away for a minute.
            if required:
                raise
            return
        keys = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(keys, list):
            raise InvalidIdToken("the provider's key document holds no list of keys")
        self._keys = [key for key in keys if isinstance(key, dict)]
        self._fetched = self._clock()

    def _among(self, kid: str | None, algorithm: str) -> list[Mapping[str, Any]]:
        return [
            key
            for key in self._keys
            if key.get("kty") == KEY_TYPES[algorithm[:2]]
            and key.get("use", "sig") == "sig"
            and key.get("alg", algorithm) == algorithm
            and (kid is None or key.get("kid") == kid)
        ]


async def verify(
    token: Any,
    keys: KeySet,
    *,
    issuer: str,
    client_id: str,
    nonce: str | None,
    access_token: str | None = None,
) -> dict[str, Any]:
    """The claims of a good ID token. Raises `InvalidIdToken`.

    `nonce` is what the authorization request carried; None where there was none (a refreshed token).
    """
    if not isinstance(token, str) or not token:
        raise InvalidIdToken("the provider sent no ID token")
    if len(token) > LONGEST:
        raise InvalidIdToken("the ID token is too long")
    kid, algorithm = _header(token)
    claims: dict[str, Any] | None = None
    fault = "no key of the provider fits its key id"
    for key in await keys.fitting(kid, algorithm):
        try:
            claims = _decode(token, key, algorithm, issuer=issuer, client_id=client_id)
            break
        except jwt.InvalidSignatureError:
            fault = "its signature is not the provider's"
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise InvalidIdToken(_words(error)) from None
    if claims is None:
        raise InvalidIdToken(f"the ID token is not valid: {fault}")
    _check_party(claims, client_id)
    _check_nonce(claims, nonce)
    if access_token is not None and "at_hash" in claims:
        _check_access_token(claims["at_hash"], access_token, algorithm)
    return claims


def _header(token: str) -> tuple[str | None, str]:
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        raise InvalidIdToken("the ID token is not a signed token") from None
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        shown = str(algorithm)[:20] if str(algorithm)[:20].isprintable() else "?"
        raise InvalidIdToken(
            f"the ID token is signed with alg {shown}; accepted are {', '.join(sorted(ALGORITHMS))}"
        )
    if "crit" in header:
        raise InvalidIdToken("the ID token has critical extensions, and none is understood")
    if kid is not None and not isinstance(kid, str):
        raise InvalidIdToken("the ID token's key id is not text")
    return kid, algorithm


def _decode(
    token: str, key: Mapping[str, Any], algorithm: str, *, issuer: str, client_id: str
) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(
        token,
        jwt.PyJWK(dict(key), algorithm).key,
        algorithms=[algorithm],
        audience=client_id,
        issuer=issuer,
        leeway=LEEWAY,
        options={"require": ["iss", "sub", "aud", "exp", "iat"]},
    )
    return claims


def _check_party(claims: Mapping[str, Any], client_id: str) -> None:
    audience, party = claims.get("aud"), claims.get("azp")
    if isinstance(audience, list) and len(audience) > 1 and party is None:
        raise InvalidIdToken("the ID token is for several audiences and names no authorized party (azp)")
    if party is not None and party != client_id:
        raise InvalidIdToken("the ID token was issued to another client (azp)")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject or len(subject) > 255:
        raise InvalidIdToken("the ID token names no subject (sub)")


def _check_nonce(claims: Mapping[str, Any], nonce: str | None) -> None:
    if nonce is None:
        return
    given = claims.get("nonce")
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(), nonce.encode()):
        raise InvalidIdToken("the ID token belongs to another sign-in (nonce)")


def _check_access_token(expected: Any, access_token: str, algorithm: str) -> None:
    if algorithm == "EdDSA":
        return  # which hash is meant depends on the curve; the signature already binds both to the provider
    half = hashlib.new(f"sha{algorithm[2:]}", access_token.encode()).digest()
    computed = base64.urlsafe_b64encode(half[: len(half) // 2]).decode().rstrip("=")
    if not isinstance(expected, str) or not hmac.compare_digest(expected.encode(), computed.encode()):
        raise InvalidIdToken("the ID token belongs to another access token (at_hash)")


def _words(error: Exception) -> str:
    known = {
        jwt.ExpiredSignatureError: "it has expired",
        jwt.ImmatureSignatureError: "it is from the future; compare the clocks",
        jwt.InvalidIssuerError: "it is another issuer's",
        jwt.InvalidAudienceError: "it is for another client (aud)",
    }
    for kind, words in known.items():
        if isinstance(error, kind):
            return f"the ID token is not valid: {words}"
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"the ID token is not valid: it lacks {error.claim}"
    return f"the ID token is not valid: {type(error).__name__}"
