"""The provider's state in sqlite: what users, browsers and clients hold survives `kill -9` and a power cut."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from tidehub.identity.private_files import make_private_directory
from tidehub.system import sqlite

FILE_NAME = "identity.sqlite"
_WHAT = "the identity provider's database"
_RESTORE = (
    "restore it from a backup. Without one: move it away and start again; then users sign in again, and the accounts "
    "for trying out get new passwords"
)

_SCHEMA = """
CREATE TABLE accounts (
    username TEXT PRIMARY KEY, sub TEXT NOT NULL UNIQUE, name TEXT NOT NULL, email TEXT NOT NULL,
    entitlements TEXT NOT NULL, affiliation TEXT NOT NULL, assurance TEXT NOT NULL,
    password_hash TEXT NOT NULL
) STRICT;
CREATE TABLE sessions (
    id_hash TEXT PRIMARY KEY, sid TEXT NOT NULL UNIQUE, sub TEXT NOT NULL,
    auth_time INTEGER NOT NULL, expires REAL NOT NULL
) STRICT;
CREATE TABLE grants (
    id TEXT PRIMARY KEY, client_id TEXT NOT NULL, sub TEXT NOT NULL, scope TEXT NOT NULL, nonce TEXT,
    auth_time INTEGER NOT NULL, sid TEXT NOT NULL, revoked INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX grants_by_sid ON grants (sid);
CREATE TABLE codes (
    hash TEXT PRIMARY KEY, grant_id TEXT NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    redirect_uri TEXT NOT NULL, challenge TEXT NOT NULL, expires REAL NOT NULL,
    spent INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX codes_by_grant ON codes (grant_id);
CREATE TABLE access_tokens (
    hash TEXT PRIMARY KEY, grant_id TEXT NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    scope TEXT NOT NULL, expires REAL NOT NULL
) STRICT;
CREATE INDEX access_tokens_by_grant ON access_tokens (grant_id);
CREATE TABLE refresh_tokens (
    hash TEXT PRIMARY KEY, grant_id TEXT NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    expires REAL NOT NULL, spent INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX refresh_tokens_by_grant ON refresh_tokens (grant_id);
CREATE TABLE failures (
    key TEXT PRIMARY KEY, count INTEGER NOT NULL, last REAL NOT NULL, blocked_until REAL NOT NULL
) STRICT;
"""


def check(state_dir: Path) -> None:
    """Raise `tidehub.system.sqlite.Damaged` when the database below `state_dir` is; a missing one is not."""
    sqlite.File(state_dir / FILE_NAME, _WHAT, _RESTORE).check()


class Database:
    """One sqlite connection. Several processes may hold one each: `up` writes accounts meanwhile."""

    def __init__(self, state_dir: Path) -> None:
        """Open or make the database below `state_dir` (0700). Raises `TidehubError` for a damaged one."""
        make_private_directory(state_dir)
        self.state_dir = state_dir
        self._file = sqlite.Database(state_dir / FILE_NAME, _WHAT, _RESTORE, steps=(_SCHEMA,))
        self.connection = self._file.connect()

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """All or nothing, and alone: writers of other processes wait."""
        return self._file.within(self.connection)

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
