"""One process, known by pid *and* start time, so that a reused pid is never taken for it.

Facts from proc(5): field 22 of /proc/PID/stat is the start time in clock ticks after boot; the command in field 2
stands in parentheses and may itself hold parentheses and spaces; state Z and X are processes that have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tidehub.errors import TidehubError

PROC = Path("/proc")
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Stat:
    """The fields of /proc/PID/stat that we use; times in seconds."""

    pid: int
    state: str
    parent: int
    session: int
    cpu_seconds: float
    started: int
    """Clock ticks after boot."""

    @property
    def ended(self) -> bool:
        return self.state in "ZXx"


@dataclass(frozen=True)
class ProcessHandle:
    """A started process tree: enough to find it, judge it and end it after a restart of the platform."""

    pid: int
    """The person's program itself, numbered as outside of any sandbox."""
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


def parse_stat(text: str) -> Stat:
    """The content of /proc/PID/stat; raises `ValueError` or `IndexError` if it is not one."""
    pid, _, rest = text.partition(" (")
    fields = rest[rest.rindex(")") + 2 :].split()
    ticks = int(fields[11]) + int(fields[12])
    return Stat(
        pid=int(pid),
        state=fields[0],
        parent=int(fields[1]),
        session=int(fields[3]),
        cpu_seconds=ticks / os.sysconf("SC_CLK_TCK"),
        started=int(fields[19]),
    )


def read_stat(pid: int) -> Stat | None:
    """What the kernel says about `pid` now; None if there is no such process."""
    try:
        return parse_stat((PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, IndexError):
        return None


def all_stats() -> dict[int, Stat]:
    """Every process that this one can see."""
    pids = [int(name) for name in os.listdir(PROC) if name.isdigit()]  # noqa: PTH208 - names, not paths
    return {pid: found for pid in pids if (found := read_stat(pid)) is not None}


def children_of(parent: int) -> list[Stat]:
    """Direct children of a process, ended ones included."""
    return [stat for stat in all_stats().values() if stat.parent == parent]


@cache
def boot_id() -> str:
    """Names the current run of the kernel; empty where /proc does not tell."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def is_alive(pid: int, started: int) -> bool:
    """Whether exactly this process still runs. A zombie has ended, whoever forgets to collect it."""
    found = read_stat(pid)
    return found is not None and found.started == started and not found.ended


def handle_alive(handle: ProcessHandle) -> bool:
    """`is_alive`, and of the same boot."""
    same_boot = not handle.boot or not boot_id() or handle.boot == boot_id()
    return same_boot and is_alive(handle.pid, handle.started)


def send(pid: int, started: int, number: signal.Signals) -> bool:
    """Signal exactly this process; False if it is gone. Raises `TidehubError` if it is not ours to signal."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    except OSError:  # kernels before 5.3: a reused pid is possible only between these two lines
        if not is_alive(pid, started):
            return False
        return _kill(lambda: os.kill(pid, number), pid)
    try:
        # The descriptor holds the process; if it is the right one now, it stays the right one.
        if not is_alive(pid, started):
            return False
        return _kill(lambda: signal.pidfd_send_signal(fd, number), pid)
    finally:
        os.close(fd)


def _kill(deliver: Any, pid: int) -> bool:
    try:
        deliver()
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise TidehubError(
            f"process {pid} cannot be ended: it belongs to another user",
            fix="stop the platform as the user who started it, or as root",
        ) from error
    return True


async def wait_end(pid: int, started: int, timeout: float) -> bool:
    """Wait until this process has ended, at most `timeout` seconds; whether it has."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except OSError:
        return await _poll_end(pid, started, timeout)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    try:
        if not is_alive(pid, started):
            return True
        loop.add_reader(fd, ended.set)
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), timeout)
        finally:
            loop.remove_reader(fd)
    finally:
        os.close(fd)
    return not is_alive(pid, started)


async def _poll_end(pid: int, started: int, timeout: float) -> bool:
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout
    while is_alive(pid, started):
        if loop.time() >= until:
            return False
        await asyncio.sleep(_POLL_SECONDS)
    return True
