"""What secrets look like, and how new ones are made."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A form of secrets. `words` names it in messages; `make` is None for what only somebody else can issue."""

    words: str
    pattern: re.Pattern[str]
    make: Callable[[], str] | None = None

    def fits(self, value: object) -> bool:
        """Whether a value, of any type, has this form."""
        return isinstance(value, str) and self.pattern.fullmatch(value) is not None


HEX_32_BYTES = Shape(
    "64 hexadecimal digits (32 bytes)", re.compile(r"[0-9a-fA-F]{64}"), lambda: secrets.token_hex(32)
)
FERNET_KEY = Shape(
    "a Fernet key: 32 bytes as 44 characters of URL-safe base64",
    re.compile(r"[A-Za-z0-9_-]{43}="),
    lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
)
"""Fernet's key format (cryptography.fernet), which dask-gateway's `db_encrypt_keys` takes."""
CRYPT_KEY = Shape(
    "64 hexadecimal digits, or 32 bytes in URL-safe base64",
    re.compile(r"[0-9a-fA-F]{64}|[A-Za-z0-9_-]{43}="),
    HEX_32_BYTES.make,
)
"""What JupyterHub's CryptKeeper.keys takes (jupyterhub.crypto)."""
TOKEN = Shape(
    "at least 32 letters, digits, - or _",
    re.compile(r"[A-Za-z0-9_-]{32,1024}"),
    lambda: secrets.token_hex(32),
)
"""A token between two programs; deployments that exist already have other forms than the one made here."""
CLIENT_SECRET = Shape(
    "8 to 1024 printable ASCII characters without blanks", re.compile(r"[\x21-\x7e]{8,1024}")
)
"""RFC 6749, A.2 (VSCHAR), less the blank: at the ends of a value it is always a mistake."""
PASSWORD = Shape("4 to 1024 characters on one line", re.compile(r"[^\x00-\x1f\x7f\u2028\u2029]{4,1024}"))
