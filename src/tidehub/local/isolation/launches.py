"""What runs, written down before it runs: survives hub, gateway and supervisor. Kept in the people's table file."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from tidehub.errors import TidehubError

from .model import LaunchSpec
from .people import People
from .process import ProcessHandle


@dataclass(frozen=True)
class Launched:
    """One line: a started process that nobody has cleaned away yet; it may have ended."""

    handle: ProcessHandle
    person: str
    parent: str
    name: str


class Launches:
    """The table of started processes."""

    def __init__(self, people: People) -> None:
        self._people = people

    def record(self, spec: LaunchSpec, handle: ProcessHandle, *, refuse: object = None) -> None:
        """Write a line. `refuse(lines)` may raise after seeing all others, in the same transaction."""
        with self._people.transaction() as db:
            if callable(refuse):
                refuse(self._read(db))
            db.execute(
                "INSERT OR REPLACE INTO launches (pid, started, boot, person, parent, name, handle)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    handle.pid,
                    handle.started,
                    handle.boot,
                    spec.person.name,
                    spec.parent,
                    spec.name,
                    json.dumps(handle.to_state()),
                ),
            )

    def forget(self, handle: ProcessHandle) -> None:
        """Remove the line, if it is there."""
        with self._people.transaction() as db:
            db.execute(
                "DELETE FROM launches WHERE pid = ? AND started = ? AND boot = ?",
                (handle.pid, handle.started, handle.boot),
            )

    def all(self, parent: str | None = None) -> list[Launched]:
        """Every line, or those of one family."""
        with self._people.transaction(write=False) as db:
            return [line for line in self._read(db) if parent is None or line.parent == parent]

    @staticmethod
    def _read(db: sqlite3.Connection) -> list[Launched]:
        found = []
        for text, person, parent, name in db.execute("SELECT handle, person, parent, name FROM launches"):
            try:
                found.append(Launched(ProcessHandle.from_state(json.loads(text)), person, parent, name))
            except json.JSONDecodeError as error:
                raise TidehubError(
                    f"the table of started processes is damaged at {name!r} of {person!r}",
                    fix="restore the private directory from a backup",
                ) from error
        return found
