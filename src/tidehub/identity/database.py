"""The provider's state in sqlite: what users, browsers and clients hold survives `kill -9`."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from tidehub.errors import Place, TidehubError
from tidehub.identity.private_files import make_private_directory

FILE_NAME = "identity.sqlite"
SCHEMA_VERSION = 1

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


class Database:
    """One sqlite connection. Several processes may hold one each: `up` writes accounts meanwhile."""

    def __init__(self, state_dir: Path) -> None:
        """Open or make the database below `state_dir` (0700). Raises `TidehubError` for a damaged one."""
        make_private_directory(state_dir)
        self.state_dir = state_dir
        path = state_dir / FILE_NAME
        try:
            if not path.exists():
                # sqlite would make it by the umask; its journal files take their mode from this file.
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
                os.fchmod(descriptor, 0o600)
                os.close(descriptor)
            self.connection = sqlite3.connect(path, isolation_level=None, timeout=10)
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise TidehubError(
                f"The identity provider's database cannot be used: {error}.",
                where=Place(str(path)),
                fix="restore it from a backup, or move it away: accounts are made anew, users sign in again",
            ) from None

    def _prepare(self) -> None:
        execute = self.connection.execute
        self.connection.row_factory = sqlite3.Row
        execute("PRAGMA journal_mode = WAL")
        # A killed process loses nothing in this mode; after a power cut the last moments may be missing.
        execute("PRAGMA synchronous = NORMAL")
        execute("PRAGMA foreign_keys = ON")
        execute("PRAGMA secure_delete = ON")
        with self.transaction():
            version = execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, SCHEMA_VERSION):
                raise sqlite3.DatabaseError(
                    f"it has schema {version}, and this tidehub knows schema {SCHEMA_VERSION}"
                )
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    execute(statement)
                execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, and alone: writers of other processes wait (10 s at most)."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
