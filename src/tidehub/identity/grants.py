"""Codes and tokens: what a signed-in person granted to a client.

One grant is the family of a code and all tokens that follow from it. Codes and tokens are 256 random bits;
the database holds only their digests. All times are epoch seconds.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import sqlite3
from dataclasses import dataclass

from tidehub.identity.config import Lifetimes
from tidehub.identity.database import Database
from tidehub.identity.sessions import Session, digest

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


class InvalidGrant(Exception):
    """A code or refresh token that gives nothing. `str(error)` says why, for the client's developer."""


@dataclass(frozen=True)
class Grant:
    """Who granted what to whom."""

    id: str
    client_id: str
    sub: str
    scopes: tuple[str, ...]
    nonce: str | None
    auth_time: int
    sid: str


@dataclass(frozen=True)
class Tokens:
    """Fresh tokens. `scopes` may be fewer than the grant's."""

    grant: Grant
    scopes: tuple[str, ...]
    access_token: str
    refresh_token: str | None


class Grants:
    """Grants, codes and tokens in the database. Each method is one transaction."""

    def __init__(self, database: Database, lifetimes: Lifetimes) -> None:
        self._database = database
        self._lifetimes = lifetimes

    def issue_code(
        self,
        *,
        client_id: str,
        session: Session,
        scopes: tuple[str, ...],
        nonce: str | None,
        redirect_uri: str,
        challenge: str,
        now: float,
    ) -> str:
        """A new grant and the code that opens it once."""
        grant_id, code = secrets.token_hex(16), secrets.token_urlsafe(32)
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO grants (id, client_id, sub, scope, nonce, auth_time, sid)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (grant_id, client_id, session.sub, " ".join(scopes), nonce, session.auth_time, session.sid),
            )
            connection.execute(
                "INSERT INTO codes (hash, grant_id, redirect_uri, challenge, expires) VALUES (?, ?, ?, ?, ?)",
                (digest(code), grant_id, redirect_uri, challenge, now + self._lifetimes.code),
            )
        return code

    def redeem_code(
        self, code: str, *, client_id: str, redirect_uri: str, verifier: str, now: float
    ) -> Tokens:
        """The tokens for a code. Raises `InvalidGrant`.

        The right client has one try: wrong proof spends the code as well. A spent code that comes again revokes
        its whole grant (RFC 6749, 4.1.2). A code in foreign hands gives nothing and stays the owner's.
        """
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT * FROM codes JOIN grants ON grants.id = grant_id WHERE hash = ?", (digest(code),)
            ).fetchone()
            refusal = self._code_refusal(row, client_id, redirect_uri, verifier, now)
            if row is not None and row["spent"]:
                _revoke(connection, row["grant_id"])
            elif row is not None and row["client_id"] == client_id:
                connection.execute("UPDATE codes SET spent = 1 WHERE hash = ?", (digest(code),))
            if refusal is None:
                grant = _grant(row)
                return self._new_tokens(connection, grant, grant.scopes, now)
        raise InvalidGrant(refusal)

    @staticmethod
    def _code_refusal(
        row: sqlite3.Row | None, client_id: str, redirect_uri: str, verifier: str, now: float
    ) -> str | None:
        if row is None or row["client_id"] != client_id:
            return "This code is unknown."
        if row["spent"]:
            return "This code was used before; everything granted by it is revoked."
        if row["revoked"] or row["expires"] <= now:
            return "This code has expired."
        if row["redirect_uri"] != redirect_uri:
            return "redirect_uri differs from the one of the authorization request."
        if not _VERIFIER.fullmatch(verifier) or not hmac.compare_digest(s256(verifier), row["challenge"]):
            return "code_verifier does not match the code_challenge."
        return None

    def refresh(self, token: str, *, client_id: str, scopes: tuple[str, ...] | None, now: float) -> Tokens:
        """New tokens for a refresh token, which is spent by that. Raises `InvalidGrant`.

        A refresh token that comes back revokes its family: the old or the new one was stolen (RFC 9700, 4.14.2).
        `scopes` must be among the granted ones; None means all. Others raise `ValueError` and spend nothing.
        """
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT * FROM refresh_tokens JOIN grants ON grants.id = grant_id WHERE hash = ?",
                (digest(token),),
            ).fetchone()
            if row is not None and row["spent"]:
                _revoke(connection, row["grant_id"])
                refusal = "This refresh token was used before; everything granted with it is revoked."
            elif row is None or row["client_id"] != client_id:
                refusal = "This refresh token is unknown."
            elif row["revoked"] or row["expires"] <= now:
                refusal = "This refresh token has expired or is revoked."
            else:
                grant = _grant(row)
                if scopes is not None and not set(scopes) <= set(grant.scopes):
                    raise ValueError("scope asks for more than was granted.")
                connection.execute("UPDATE refresh_tokens SET spent = 1 WHERE hash = ?", (digest(token),))
                return self._new_tokens(connection, grant, scopes or grant.scopes, now)
        raise InvalidGrant(refusal)

    def find_access(self, token: str, now: float) -> tuple[Grant, tuple[str, ...]] | None:
        """The grant and scopes of a live access token, or None."""
        row = self._database.connection.execute(
            "SELECT grants.*, access_tokens.scope AS token_scope FROM access_tokens"
            " JOIN grants ON grants.id = grant_id WHERE hash = ? AND expires > ? AND NOT revoked",
            (digest(token), now),
        ).fetchone()
        return None if row is None else (_grant(row), tuple(row["token_scope"].split()))

    def revoke_token(self, token: str, client_id: str) -> bool:
        """End a token (RFC 7009): a refresh token with its family, an access token alone.

        False when it belongs to another client, which changes nothing; True otherwise, for unknown tokens too.
        """
        with self._database.transaction() as connection:
            for table in ("refresh_tokens", "access_tokens"):
                row = connection.execute(
                    f"SELECT grant_id, client_id FROM {table} JOIN grants ON grants.id = grant_id"
                    " WHERE hash = ?",
                    (digest(token),),
                ).fetchone()
                if row is None:
                    continue
                if row["client_id"] != client_id:
                    return False
                if table == "refresh_tokens":
                    _revoke(connection, row["grant_id"])
                else:
                    connection.execute("DELETE FROM access_tokens WHERE hash = ?", (digest(token),))
        return True

    def end_session(self, sid: str) -> None:
        """Revoke what a signed-out session granted, except offline access, whose sense is to outlive it.

        Codes not yet redeemed end in any case.
        """
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE codes SET expires = 0"
                " WHERE NOT spent AND grant_id IN (SELECT id FROM grants WHERE sid = ?)",
                (sid,),
            )
            granted = connection.execute("SELECT id, scope FROM grants WHERE sid = ?", (sid,)).fetchall()
            for row in granted:
                if "offline_access" not in row["scope"].split():
                    _revoke(connection, row["id"])

    def purge(self, now: float) -> None:
        """Drop grants that nothing valid hangs on; what is spent stays known as long as its grant lives."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM grants WHERE"
                " id NOT IN (SELECT grant_id FROM codes WHERE expires > :now)"
                " AND id NOT IN (SELECT grant_id FROM access_tokens WHERE expires > :now)"
                " AND id NOT IN (SELECT grant_id FROM refresh_tokens WHERE expires > :now)",
                {"now": now},
            )
            connection.execute("DELETE FROM access_tokens WHERE expires <= ?", (now,))

    def _new_tokens(
        self, connection: sqlite3.Connection, grant: Grant, scopes: tuple[str, ...], now: float
    ) -> Tokens:
        access, refresh = secrets.token_urlsafe(32), None
        connection.execute(
            "INSERT INTO access_tokens (hash, grant_id, scope, expires) VALUES (?, ?, ?, ?)",
            (digest(access), grant.id, " ".join(scopes), now + self._lifetimes.access),
        )
        if "offline_access" in grant.scopes:
            refresh = secrets.token_urlsafe(32)
            connection.execute(
                "INSERT INTO refresh_tokens (hash, grant_id, expires) VALUES (?, ?, ?)",
                (digest(refresh), grant.id, now + self._lifetimes.refresh),
            )
        return Tokens(grant, scopes, access, refresh)


def s256(verifier: str) -> str:
    """The S256 challenge of a PKCE verifier (RFC 7636, 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def _revoke(connection: sqlite3.Connection, grant_id: str) -> None:
    connection.execute("UPDATE grants SET revoked = 1 WHERE id = ?", (grant_id,))
    connection.execute("DELETE FROM access_tokens WHERE grant_id = ?", (grant_id,))


def _grant(row: sqlite3.Row) -> Grant:
    return Grant(
        id=row["id"],
        client_id=row["client_id"],
        sub=row["sub"],
        scopes=tuple(row["scope"].split()),
        nonce=row["nonce"],
        auth_time=row["auth_time"],
        sid=row["sid"],
    )
