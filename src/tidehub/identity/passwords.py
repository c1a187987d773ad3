"""Passwords: scrypt at rest, generated ones readable aloud."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

# OWASP Password Storage Cheat Sheet, scrypt: N=2^15 (32 MiB), r=8, p=3.
_LOG_N, _R, _P = 15, 8, 3
_SALT_BYTES, _HASH_BYTES = 16, 32
LONGEST_PASSWORD = 1024
"""Bytes; longer ones are never right, and cost nothing."""

# No 0/o, 1/l/i, u/v: 29 characters, so sixteen carry 77 bits.
_ALPHABET = "abcdefghjkmnpqrstwxyz23456789"


def hash_password(password: str) -> str:
    """`scrypt$<log2 N>$<r>$<p>$<salt>$<hash>`, base64 without padding. Takes about 0.3 s and 32 MiB."""
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = _scrypt(password, salt, _LOG_N, _R, _P)
    return f"scrypt${_LOG_N}${_R}${_P}${_encode(salt)}${_encode(digest)}"


def verify_password(password: str, stored: str) -> bool:
    """Whether `password` is the one behind `stored`. Raises `ValueError` for text of another form."""
    kind, log_n, r, p, salt, digest = stored.split("$")
    if kind != "scrypt":
        raise ValueError("not a scrypt hash")
    too_long = len(password.encode()) > LONGEST_PASSWORD
    found = _scrypt("" if too_long else password, _decode(salt), int(log_n), int(r), int(p))
    return hmac.compare_digest(found, _decode(digest)) and not too_long


def generate_password() -> str:
    """Sixteen characters in groups of four, none easily taken for another: about 77 bits."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(4))


def _scrypt(password: str, salt: bytes, log_n: int, r: int, p: int) -> bytes:
    # OpenSSL needs 128*N*r bytes and a little; its default ceiling of 32 MiB is just too low.
    ceiling = 128 * 2**log_n * r + 1024 * 1024 * p
    return hashlib.scrypt(
        password.encode(), salt=salt, n=2**log_n, r=r, p=p, maxmem=ceiling, dklen=_HASH_BYTES
    )


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
