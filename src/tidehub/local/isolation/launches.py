"""What runs, written down before it runs: survives hub, gateway and supervisor. Kept in the users' table file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tidehub.errors import TidehubError

from .model import LaunchSpec
from .process import ProcessHandle
from .users import Users


@dataclass(frozen=True)
class Launched:
    """One line: a started process that nobody has cleaned away yet; it may have ended."""

    handle: ProcessHandle
    user: str
    parent: str
    name: str


class Launches:
    """The table of started processes."""

    def __init__(self, users: Users) -> None:
        self._users = users

    def record(
        self,
        spec: LaunchSpec,
        handle: ProcessHandle,
        *,
        refuse: Callable[[list[Launched]], None] | None = None,
    ) -> None:
        """Write a line. `refuse(lines)` may raise after seeing all others, in the same transaction."""
        with self._users.transaction() as db:
            if refuse is not None:
                refuse(self._read(db))
            db.execute(
                "INSERT OR REPLACE INTO launches (pid, started, boot, person, parent, name, handle)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    handle.pid,
                    handle.started,
                    handle.boot,
                    spec.user.name,
                    spec.parent,
                    spec.name,
                    json.dumps(handle.to_state()),
                ),
            )

    def forget(self, handle: ProcessHandle) -> None:
        """Remove the line, if it is there."""
        with self._users.transaction() as db:
            db.execute(
                "DELETE FROM launches WHERE pid = ? AND started = ? AND boot = ?",
                (handle.pid, handle.started, handle.boot),
            )

    def all(self, parent: str | None = None) -> list[Launched]:
        """Every line, or those of one family."""
        with self._users.transaction(write=False) as db:
            return [line for line in self._read(db) if parent is None or line.parent == parent]

    def of(self, user: str) -> list[Launched]:
        """The lines of one user; costs the same however many others there are."""
        with self._users.transaction(write=False) as db:
            return self._read(db, "WHERE person = ?", (user,))

    def find(self, handle: ProcessHandle) -> Launched | None:
        """The line of one process, if it is there."""
        with self._users.transaction(write=False) as db:
            found = self._read(
                db,
                "WHERE pid = ? AND started = ? AND boot = ?",
                (handle.pid, handle.started, handle.boot),
            )
        return found[0] if found else None

    def mend(self, keep: Callable[[list[dict[str, Any]]], None]) -> None:
        """Take out lines that tell nothing of a process any more; `keep` writes them down first.

        For the start of the platform. What such a process belonged to still ends it: its control group, or its mark.
        """
        with self._users.transaction() as db:
            rows = db.execute(f"SELECT rowid, {_COLUMNS} FROM launches").fetchall()
            hopeless = [row for row in rows if _line(row[1:]) is None]
            if hopeless:
                keep([dict(row) for row in hopeless])
                db.executemany("DELETE FROM launches WHERE rowid = ?", [(row[0],) for row in hopeless])

    @staticmethod
    def _read(db: sqlite3.Connection, which: str = "", values: tuple[object, ...] = ()) -> list[Launched]:
        lines = (_line(row) for row in db.execute(f"SELECT {_COLUMNS} FROM launches {which}", values))
        return [line for line in lines if line is not None]


_COLUMNS = "handle, person, parent, name, pid, started, boot"


def _line(row: Iterable[Any]) -> Launched | None:
    """One line. Where its handle is damaged, its other columns know enough of the process to end it; None where they
    are damaged too.
    """
    text, user, parent, name, pid, started, boot = row
    if not (isinstance(pid, int) and isinstance(started, int) and isinstance(boot, str)):
        return None
    try:
        handle = ProcessHandle.from_state(json.loads(text))
        if (handle.pid, handle.started, handle.boot) != (pid, started, boot):
            raise ValueError("it is another process's")
    except (TidehubError, ValueError, TypeError, RecursionError):
        handle = ProcessHandle(pid=pid, started=started, boot=boot)
    return Launched(handle, str(user), str(parent), str(name))
