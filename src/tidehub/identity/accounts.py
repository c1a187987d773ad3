"""Accounts of the provider: who they are, what they may say about themselves, and how they prove it."""

from __future__ import annotations

import json
import logging
import re
import secrets
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tidehub.errors import TidehubError, UsageError
from tidehub.identity.database import Database
from tidehub.identity.passwords import hash_password
from tidehub.system.files import write_private

_log = logging.getLogger(__name__)
_USERNAME = re.compile(r"[a-z][a-z0-9._-]{0,62}[a-z0-9]|[a-z]")
SHORTEST_PASSWORD = 8


def new_sub() -> str:
    """A subject in the form EGI Check-In uses: opaque, 64 hexadecimal digits, scoped to egi.eu."""
    return f"{secrets.token_hex(32)}@egi.eu"


@dataclass(frozen=True)
class Account:
    """One user. `entitlements` are AARC URNs; `sub` is drawn once and never reused."""

    username: str
    name: str
    email: str
    sub: str = field(default_factory=new_sub)
    entitlements: tuple[str, ...] = ()
    affiliation: tuple[str, ...] = ()
    assurance: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _USERNAME.fullmatch(self.username):
            raise UsageError(
                f"{self.username!r} cannot be a user name of the identity provider.",
                expected="1 to 64 of a-z 0-9 . _ - that begin with a letter and end with a letter or digit",
            )
        for label, values in (("entitlements", self.entitlements), ("affiliation", self.affiliation)):
            # A bare string would be taken apart into letters.
            if isinstance(values, str):
                raise UsageError(f"{label} of {self.username} must be a list, not one text.")


class AccountStore:
    """Accounts in the provider's database. Another process may change them while the provider runs."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @classmethod
    def open(cls, state_dir: Path) -> Self:
        """The accounts below `state_dir`, made (0700) when missing. Raises `TidehubError` if unusable."""
        store = cls(Database(state_dir))
        store.mend()
        return store

    def mend(self) -> list[str]:
        """Take accounts out that cannot be read, so that they cost nobody else; gives their names, as text.

        A copy stays beside the database (0600). Demo accounts are made again with the password they had.
        """
        connection = self.database.connection
        with self.database.transaction():
            rows = connection.execute("SELECT rowid, * FROM accounts").fetchall()
            damaged = [row for row in rows if not _readable(row)]
            if damaged:
                kept = self.state_dir / f"set-aside-{int(time.time())}-{secrets.token_hex(8)}.json"
                write_private(kept, json.dumps([dict(row) for row in damaged], indent=1, default=repr) + "\n")
                for row in damaged:
                    connection.execute("DELETE FROM accounts WHERE rowid = ?", (row["rowid"],))
                    _log.warning(
                        "The account %r is damaged and was removed; a copy is in %s", row["username"], kept
                    )
        return [str(row["username"]) for row in damaged]

    @property
    def state_dir(self) -> Path:
        """The private directory of this provider."""
        return self.database.state_dir

    def add(self, account: Account, password: str) -> None:
        """Add a user. Raises `UsageError` for a taken name or subject, or a password below 8 characters."""
        self.add_hashed(account, hash_password(checked_password(password)))

    def add_hashed(self, account: Account, password_hash: str) -> None:
        """As `add`, with the result of `passwords.hash_password`."""
        try:
            with self.database.transaction() as connection:
                connection.execute(
                    "INSERT INTO accounts (username, sub, name, email, entitlements, affiliation, assurance,"
                    " password_hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        account.username,
                        account.sub,
                        account.name,
                        account.email,
                        json.dumps(account.entitlements),
                        json.dumps(account.affiliation),
                        json.dumps(account.assurance),
                        password_hash,
                    ),
                )
        except sqlite3.IntegrityError:
            raise UsageError(
                f"The identity provider already has an account {account.username} or its subject."
            ) from None

    def get(self, username: str) -> Account | None:
        """The account of this name (letter case and surrounding blanks do not matter), or None."""
        return self._find("username = ?", canonical(username))

    def by_sub(self, sub: str) -> Account | None:
        """The account with this subject, or None."""
        return self._find("sub = ?", sub)

    def all(self) -> list[Account]:
        """Every account, by name."""
        rows = self.database.connection.execute("SELECT * FROM accounts ORDER BY username")
        return [_account(row) for row in rows]

    def password_hash(self, username: str) -> str | None:
        """What `passwords.verify_password` needs, or None for an unknown name."""
        row = self.database.connection.execute(
            "SELECT password_hash FROM accounts WHERE username = ?", (canonical(username),)
        ).fetchone()
        return None if row is None else str(row["password_hash"])

    def set_entitlements(self, username: str, entitlements: Iterable[str]) -> None:
        """Replace what userinfo says from the next request on. Raises `UsageError` for an unknown name."""
        if isinstance(entitlements, str):
            raise UsageError(f"entitlements of {username} must be a list, not one text.")
        self._change(username, "entitlements", json.dumps(list(entitlements)))

    def set_assurance(self, username: str, assurance: Iterable[str]) -> None:
        """Replace the levels of assurance that userinfo states. Raises `UsageError` for an unknown name."""
        if isinstance(assurance, str):
            raise UsageError(f"assurance of {username} must be a list, not one text.")
        self._change(username, "assurance", json.dumps(list(assurance)))

    def set_password_hash(self, username: str, password_hash: str) -> None:
        """Replace a password by the result of `passwords.hash_password`; sign the user out everywhere."""
        self._change(username, "password_hash", password_hash, sign_out=True)

    def _change(self, username: str, column: str, value: str, *, sign_out: bool = False) -> None:
        with self.database.transaction() as connection:
            row = connection.execute(
                f"UPDATE accounts SET {column} = ? WHERE username = ? RETURNING sub",
                (value, canonical(username)),
            ).fetchone()
            if row is None:
                raise _unknown(username)
            if sign_out:
                _sign_out(connection, row["sub"])

    def _find(self, condition: str, value: str) -> Account | None:
        row = self.database.connection.execute(
            f"SELECT * FROM accounts WHERE {condition}", (value,)
        ).fetchone()
        return None if row is None else _account(row)

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def canonical(username: str) -> str:
    """The one spelling of what a user typed as their name."""
    return username.strip().lower()


def checked_password(password: str) -> str:
    """`password` itself. Raises `UsageError` when it is shorter than 8 characters."""
    if len(password) < SHORTEST_PASSWORD:
        raise UsageError(f"A password needs at least {SHORTEST_PASSWORD} characters.")
    return password


def _readable(row: sqlite3.Row) -> bool:
    """Whether an account's lists are lists of text; the table itself is STRICT about all other types."""
    try:
        account = _account(row)
        lists = [json.loads(row[name]) for name in ("entitlements", "affiliation", "assurance")]
    except (TidehubError, ValueError, TypeError, RecursionError):
        return False
    texts = all(isinstance(one, list) and all(isinstance(text, str) for text in one) for one in lists)
    return texts and bool(account.sub)


def _account(row: sqlite3.Row) -> Account:
    return Account(
        username=row["username"],
        name=row["name"],
        email=row["email"],
        sub=row["sub"],
        entitlements=tuple(json.loads(row["entitlements"])),
        affiliation=tuple(json.loads(row["affiliation"])),
        assurance=tuple(json.loads(row["assurance"])),
    )


def _sign_out(connection: sqlite3.Connection, sub: str) -> None:
    connection.execute("DELETE FROM sessions WHERE sub = ?", (sub,))
    connection.execute("DELETE FROM grants WHERE sub = ?", (sub,))


def _unknown(username: str) -> UsageError:
    return UsageError(f"The identity provider has no account {username}.")
