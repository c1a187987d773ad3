"""What runs, written down before it runs: survives hub, gateway and supervisor. Kept in the users' table file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tidehub.errors import TidehubError
from tidehub.system.processes import boot_id, is_alive

from .model import LaunchSpec
from .users import Users


@dataclass(frozen=True)
class ProcessHandle:
    """A started process tree: enough to find it, judge it and end it after a restart of the platform."""

    pid: int
    """The user's program itself, numbered as outside of any sandbox."""
    started: int
    cgroup: tuple[str, ...] = ()
    """Its own cgroup: one directory (v2), or one a hierarchy (v1); empty without cgroups."""
    boot: str = ""
    """The kernel's boot id: start times count from boot, so they mean nothing after another."""
    kills_at_start: int = 0
    memory_limit: int | None = None
    mark: str = ""
    """Set where neither a cgroup nor a pid namespace holds the tree: a variable in its environment."""
    keeper: int = 0
    """The first process of the tree's own pid namespace, if it has one: all others end with it."""
    keeper_started: int = 0
    program: str = ""
    """What was started: it lies in the environment that must stay until the end of the tree."""

    def to_state(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "cgroup": list(self.cgroup)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ProcessHandle:
        """The handle saved by `to_state`; raises `TidehubError` if this is something else."""
        try:
            limit = state.get("memory_limit")
            return cls(
                pid=int(state["pid"]),
                started=int(state["started"]),
                cgroup=tuple(str(path) for path in state.get("cgroup", ())),
                boot=str(state.get("boot", "")),
                kills_at_start=int(state.get("kills_at_start", 0)),
                memory_limit=None if limit is None else int(limit),
                mark=str(state.get("mark", "")),
                keeper=int(state.get("keeper", 0)),
                keeper_started=int(state.get("keeper_started", 0)),
                program=str(state.get("program", "")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise TidehubError(
                f"the saved state of a process is damaged ({type(error).__name__}: {error})",
                expected="what was saved when the process was started",
                fix="forget this process; if it still runs, end it by hand",
            ) from error


def handle_alive(handle: ProcessHandle) -> bool:
    """`is_alive`, and of the same boot."""
    same_boot = not handle.boot or not boot_id() or handle.boot == boot_id()
    return same_boot and is_alive(handle.pid, handle.started)


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
