"""Who is signed in with which browser."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from tidehub.identity.database import Database


@dataclass(frozen=True)
class Session:
    """A browser's session. `sid` is its public name in ID tokens; `auth_time` in epoch seconds."""

    sid: str
    sub: str
    auth_time: int


def digest(secret: str) -> str:
    """What the database holds instead of a session cookie, a code or a token (256 random bits each)."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Sessions:
    """Sessions in the database, known by the digest of their cookie. All times are epoch seconds."""

    def __init__(self, database: Database, lifetime: float) -> None:
        self._database = database
        self._lifetime = lifetime

    def begin(self, sub: str, now: float, *, replaces: str | None = None) -> tuple[str, Session]:
        """A new session and its cookie value, after a password was right.

        The session behind the cookie `replaces` ends; for the same user its `sid` lives on, so that signing out
        later reaches everything granted before.
        """
        cookie = secrets.token_urlsafe(32)
        with self._database.transaction() as connection:
            sid = secrets.token_urlsafe(16)
            if replaces:
                old = connection.execute(
                    "DELETE FROM sessions WHERE id_hash = ? RETURNING sid, sub", (digest(replaces),)
                ).fetchone()
                if old is not None and old["sub"] == sub:
                    sid = old["sid"]
            connection.execute(
                "INSERT INTO sessions (id_hash, sid, sub, auth_time, expires) VALUES (?, ?, ?, ?, ?)",
                (digest(cookie), sid, sub, int(now), now + self._lifetime),
            )
        return cookie, Session(sid, sub, int(now))

    def find(self, cookie: str | None, now: float) -> Session | None:
        """The live session of this cookie, or None."""
        if not cookie:
            return None
        row = self._database.connection.execute(
            "SELECT sid, sub, auth_time FROM sessions WHERE id_hash = ? AND expires > ?",
            (digest(cookie), now),
        ).fetchone()
        return None if row is None else Session(row["sid"], row["sub"], row["auth_time"])

    def end(self, sid: str) -> None:
        """Sign this browser out. What it was granted is ended by `Grants.end_session`."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE sid = ?", (sid,))

    def purge(self, now: float) -> None:
        """Drop expired sessions."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE expires <= ?", (now,))
