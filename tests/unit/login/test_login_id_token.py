"""ID tokens: what is believed, and the attack table. Each refusal must also say why, without any part of the token."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from tidehub.login.id_token import FETCH_AGAIN_AFTER, KEYS_AGE, InvalidIdToken, KeySet, verify

ISSUER, CLIENT, NONCE = "https://op.example.org", "hub", "nonce-of-this-sign-in"
RSA = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"}, private=True)
EC = ECKey.generate_key("P-256", {"kid": "ec", "use": "sig"}, private=True)
ED = OKPKey.generate_key("Ed25519", {"kid": "ed", "use": "sig"}, private=True)
FOREIGN = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"}, private=True)


def public(*keys: Any) -> dict[str, Any]:
    return {"keys": [key.as_dict(private=False) for key in keys]}


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    given = {
        "iss": ISSUER,
        "sub": "abc@egi.eu",
        "aud": CLIENT,
        "exp": now + 600,
        "iat": now,
        "nonce": NONCE,
        **changes,
    }
    return {name: value for name, value in given.items() if value is not None}


def signed(key: Any = RSA, alg: str = "RS256", header: dict[str, Any] | None = None, **changes: Any) -> str:
    head = {"alg": alg, "kid": key.kid, **(header or {})}
    return jwt.encode(head, claims(**changes), key, algorithms=[alg])


def key_set(document: Any = None) -> KeySet:
    async def fetch() -> Any:
        return public(RSA, EC, ED) if document is None else document

    return KeySet(fetch)


async def checked(token: Any, **changes: Any) -> dict[str, Any]:
    wanted = {"issuer": ISSUER, "client_id": CLIENT, "nonce": NONCE, **changes}
    return await verify(token, key_set(), **wanted)


@pytest.mark.parametrize(
    ("key", "alg"), [(RSA, "RS256"), (RSA, "RS512"), (RSA, "PS256"), (EC, "ES256"), (ED, "EdDSA")]
)
async def test_a_good_token_is_believed(key: Any, alg: str) -> None:
    assert (await checked(signed(key, alg)))["sub"] == "abc@egi.eu"


async def test_one_audience_in_a_list_and_several_with_an_authorized_party_are_good() -> None:
    await checked(signed(aud=[CLIENT]))
    await checked(signed(aud=[CLIENT, "account"], azp=CLIENT))


async def test_a_refreshed_token_needs_no_nonce() -> None:
    await checked(signed(nonce=None), nonce=None)


def compact(header: dict[str, Any], body: dict[str, Any], signature: bytes = b"") -> str:
    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    return ".".join((part(json.dumps(header).encode()), part(json.dumps(body).encode()), part(signature)))


def by_hmac_with_the_public_key() -> str:
    secret = RSA.as_pem(private=False)
    head = compact({"alg": "HS256", "kid": "rsa"}, claims()).rpartition(".")[0]
    signature = hmac.new(secret, head.encode(), hashlib.sha256).digest()
    return f"{head}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def tampered_subject() -> str:
    head, body, signature = signed().split(".")
    read = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    forged = base64.urlsafe_b64encode(json.dumps(read | {"sub": "root@egi.eu"}).encode()).decode().rstrip("=")
    return f"{head}.{forged}.{signature}"


DEEP = base64.urlsafe_b64encode(b"[" * 20_000).decode().rstrip("=")
ATTACKS: dict[str, tuple[Any, str]] = {
    "wrong key": (lambda: signed(FOREIGN), "signature is not the provider's"),
    "unknown key id": (lambda: signed(FOREIGN, header={"kid": "mine"}), "no key of the provider"),
    "key inside the token": (
        lambda: signed(FOREIGN, header={"jwk": FOREIGN.as_dict(private=False)}),
        "signature is not the provider's",
    ),
    "alg none": (lambda: compact({"alg": "none"}, claims()), "alg none"),
    "alg NoNe": (lambda: compact({"alg": "NoNe"}, claims()), "alg NoNe"),
    "no alg": (lambda: compact({"typ": "JWT"}, claims()), "signed"),
    "HS256 with the public key": (by_hmac_with_the_public_key, "alg HS256"),
    "HS256 with the client's secret": (
        lambda: jwt.encode({"alg": "HS256"}, claims(), OctKey.import_key("s" * 32), algorithms=["HS256"]),
        "alg HS256",
    ),
    "another key type": (lambda: signed(EC, "ES256", header={"kid": "rsa"}), "no key of the provider"),
    "wrong issuer": (lambda: signed(iss="https://evil.example.org"), "another issuer's"),
    "issuer with a slash": (lambda: signed(iss=ISSUER + "/"), "another issuer's"),
    "wrong audience": (lambda: signed(aud="other"), r"another client \(aud\)"),
    "several audiences, no party": (lambda: signed(aud=[CLIENT, "other"]), "azp"),
    "foreign party": (lambda: signed(azp="other"), "azp"),
    "expired": (lambda: signed(exp=int(time.time()) - 120), "expired"),
    "from the future": (lambda: signed(iat=int(time.time()) + 600), "future"),
    "no expiry": (lambda: signed(exp=None), "lacks exp"),
    "no subject": (lambda: signed(sub=None), "lacks sub"),
    "empty subject": (lambda: signed(sub=""), "names no subject"),
    "a number as subject": (lambda: signed(sub=7), "the ID token is not valid"),
    "tampered subject": (tampered_subject, "signature is not the provider's"),
    "another sign-in's nonce": (lambda: signed(nonce="other"), "nonce"),
    "no nonce": (lambda: signed(nonce=None), "nonce"),
    "critical extension": (
        lambda: compact({"alg": "RS256", "kid": "rsa", "crit": ["exp"], "exp": 1}, claims(), b"x" * 256),
        "critical|not a signed token",
    ),
    "another access token": (lambda: signed(at_hash="AAAA"), "at_hash"),
    "no token": (lambda: None, "sent no ID token"),
    "rubbish": (lambda: "a.b.c", "not a signed token"),
    "nested deeply": (lambda: f"{DEEP}.{DEEP}.x", "not a signed token"),
    "nested deeply and signed": (
        lambda: jws.serialize_compact({"alg": "RS256", "kid": "rsa"}, b"[" * 40_000, RSA),
        "the ID token is not valid",
    ),
    "endless": (lambda: "a" * 100_000, "too long"),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_attack_is_refused_with_its_reason(attack: str) -> None:
    make, words = ATTACKS[attack]
    token = make()
    with pytest.raises(InvalidIdToken, match=words) as refused:
        await checked(token, access_token="an access token")
    if isinstance(token, str) and token.count(".") == 2 and len(token) > 100:
        assert not any(part in str(refused.value) for part in token.split(".") if len(part) > 8)


@pytest.mark.parametrize("use", [{"use": "enc"}, {"alg": "RS512"}])
async def test_a_key_for_something_else_is_not_taken(use: dict[str, str]) -> None:
    document = public(RSA)
    document["keys"][0] |= use
    with pytest.raises(InvalidIdToken, match="no key"):
        await verify(signed(), key_set(document), issuer=ISSUER, client_id=CLIENT, nonce=NONCE)


class Provider:
    def __init__(self) -> None:
        self.now, self.fetched, self.document = 1000.0, 0, public(RSA)
        self.fails = False
        self.keys = KeySet(self.fetch, clock=lambda: self.now)

    async def fetch(self) -> Any:
        self.fetched += 1
        if self.fails:
            raise ConnectionRefusedError
        return self.document

    async def believes(self, token: str) -> bool:
        try:
            await verify(token, self.keys, issuer=ISSUER, client_id=CLIENT, nonce=NONCE)
        except InvalidIdToken:
            return False
        return True


async def test_a_new_key_is_fetched_when_a_token_names_it() -> None:
    provider = Provider()
    assert await provider.believes(signed())
    assert await provider.believes(signed()) and provider.fetched == 1
    provider.document = public(RSA, EC)
    provider.now += FETCH_AGAIN_AFTER
    assert await provider.believes(signed(EC, "ES256")) and provider.fetched == 2


async def test_invented_key_ids_do_not_hammer_the_provider() -> None:
    provider = Provider()
    assert await provider.believes(signed())
    for number in range(50):
        assert not await provider.believes(signed(FOREIGN, header={"kid": str(number)}))
    assert provider.fetched == 1


async def test_a_withdrawn_key_is_forgotten_within_the_hour() -> None:
    provider = Provider()
    assert await provider.believes(signed())
    provider.document = public(EC)
    provider.now += KEYS_AGE + 1
    assert not await provider.believes(signed())


async def test_known_keys_outlive_an_outage() -> None:
    provider = Provider()
    assert await provider.believes(signed())
    provider.fails = True
    provider.now += KEYS_AGE + 1
    assert await provider.believes(signed())
    fresh = Provider()
    fresh.fails = True
    with pytest.raises(ConnectionRefusedError):
        await fresh.believes(signed())
