"""A process that was started for a user, as it is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tidehub.errors import TidehubError
from tidehub.system.processes import boot_id, is_alive


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
