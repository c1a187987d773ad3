"""Whether anybody has changed a sqlite file since the last look, for next to nothing."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from threading import Lock

from tidehub.errors import TidehubError


class Changes:
    """Watches one file for commits by any process, this one included.

    It keeps a connection of its own, because sqlite tells of the commits of others only (PRAGMA data_version). May be
    used from any thread.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def mark(self) -> tuple[object, ...]:
        """Another value than before when something was committed in between, or the file is another one.

        Raises `TidehubError` when the file cannot be read.
        """
        with self._lock:
            try:
                status = self._path.stat()
                file = (status.st_dev, status.st_ino)
                if self._connection is None or file != self._file:
                    self._forget()
                    self._connection = sqlite3.connect(
                        self._path, timeout=5, isolation_level=None, check_same_thread=False
                    )
                    self._file = file
                return (*file, self._connection.execute("PRAGMA data_version").fetchone()[0])
            except (OSError, sqlite3.Error) as error:
                self._forget()
                raise TidehubError(
                    f"{self._path} cannot be watched: {error}",
                    expected="a sqlite file that this process may read",
                    fix="see what the file system says about it, then `tidehub up`",
                ) from error

    def close(self) -> None:
        """Give the connection back; the next `mark` opens another one."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
