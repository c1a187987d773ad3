"""The signing keys: RS256, kept in one private file, published as JWKS, replaced by `rotate`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey

from tidehub.errors import Place, TidehubError
from tidehub.identity.private_files import read_private, write_private

FILE_NAME = "signing-keys.json"
ALGORITHM = "RS256"
KEY_BITS = 2048
KEEP_RETIRED = 30 * 86400.0
"""Seconds a retired public key stays published: hints in sign-out requests may be that old."""


class SigningKeys:
    """The keys below `state_dir`. A rotation by another process is noticed at the next use."""

    def __init__(self, state_dir: Path) -> None:
        """Read the keys, or make the first one. Raises `TidehubError` when the file is damaged."""
        self._path = state_dir / FILE_NAME
        if not self._path.exists():
            _write(self._path, [_new_entry()])
        self._load()

    def jwks(self) -> dict[str, Any]:
        """What is published: the public parts, the signing key first."""
        self._refresh()
        return {"keys": [key.as_dict(private=False) for key in self._published]}

    def sign(self, claims: dict[str, Any]) -> str:
        """A compact JWS of `claims` by the active key."""
        self._refresh()
        header = {"alg": ALGORITHM, "kid": self._active.kid, "typ": "JWT"}
        return jwt.encode(header, claims, self._active, algorithms=[ALGORITHM])

    def verified(self, token: str) -> dict[str, Any] | None:
        """The claims of a token that one of the published keys signed, or None. Says nothing about expiry."""
        self._refresh()
        try:
            return dict(jwt.decode(token, KeySet(list(self._published)), algorithms=[ALGORITHM]).claims)
        except (JoseError, ValueError, TypeError):
            return None

    def _refresh(self) -> None:
        if _stamp(self._path) != self._seen:
            self._load()

    def _load(self) -> None:
        self._seen = _stamp(self._path)
        entries = _read(self._path)
        now = time.time()
        current = [entry for entry in entries if entry["active"]]
        recent = [e for e in entries if not e["active"] and now - e["retired"] < KEEP_RETIRED]
        self._active = RSAKey.import_key(current[0]["key"])
        self._published = [RSAKey.import_key(entry["key"]) for entry in [*current, *recent]]


def rotate(state_dir: Path, *, now: float | None = None) -> str:
    """Sign with a new key from now on and return its `kid`.

    Only the public part of the old key is kept; it stays published for `KEEP_RETIRED`. `now` is in seconds
    since the epoch. Raises `TidehubError` when there are no keys yet or the file is damaged.
    """
    now = time.time() if now is None else now
    path = state_dir / FILE_NAME
    old = [
        {"key": _public(entry["key"]), "active": False, "retired": entry["retired"] or now}
        for entry in _read(path)
        if entry["active"] or now - entry["retired"] < KEEP_RETIRED
    ]
    new = _new_entry()
    _write(path, [new, *old])
    return str(new["key"]["kid"])


def _new_entry() -> dict[str, Any]:
    key = RSAKey.generate_key(KEY_BITS, {"use": "sig", "alg": ALGORITHM}, auto_kid=True)
    return {"key": key.as_dict(private=True), "active": True, "retired": None}


def _public(key: dict[str, Any]) -> dict[str, Any]:
    return RSAKey.import_key(key).as_dict(private=False)


def _write(path: Path, entries: list[dict[str, Any]]) -> None:
    write_private(path, json.dumps({"keys": entries}, indent=1) + "\n")


def _read(path: Path) -> list[dict[str, Any]]:
    text = read_private(path, "The file of signing keys")
    try:
        entries: list[dict[str, Any]] = json.loads(text)["keys"]
        for entry in entries:
            RSAKey.import_key(entry["key"])
            if not isinstance(entry["active"], bool) or not (entry["active"] or entry["retired"] > 0):
                raise ValueError("neither active nor retired")
        active = [entry for entry in entries if entry["active"]]
        if len(active) != 1 or not RSAKey.import_key(active[0]["key"]).is_private:
            raise ValueError("no signing key")
    except (JoseError, ValueError, KeyError, TypeError):
        raise TidehubError(
            "The file of signing keys is damaged.",
            where=Place(str(path)),
            fix="restore it from a backup, or remove it: a new key is made, and people sign in again",
        ) from None
    return entries


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise TidehubError(
            f"The file of signing keys is gone: {error.strerror}.", where=Place(str(path))
        ) from None
    return status.st_ino, status.st_mtime_ns
