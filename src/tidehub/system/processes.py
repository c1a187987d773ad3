"""One process, known by pid *and* start time, so that a reused pid is never taken for it.

Facts from proc(5): field 22 of /proc/PID/stat is the start time in clock ticks after boot; the command in field 2
stands in parentheses and may itself hold parentheses and spaces; state Z and X are processes that have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
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
    faults: int
    """Page faults that had to wait for the disk."""
    started: int
    """Clock ticks after boot."""

    @property
    def ended(self) -> bool:
        return self.state in "ZXx"


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
        faults=int(fields[9]),
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


def start_ticks(pid: int) -> int | None:
    """When `pid` started, in clock ticks after boot; None when there is no such process, or it has ended."""
    found = read_stat(pid)
    return None if found is None or found.ended else found.started


def is_alive(pid: int, started: int) -> bool:
    """Whether exactly this process still runs. A zombie has ended, whoever forgets to collect it."""
    return start_ticks(pid) == started


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


def interpreter_environment() -> dict[str, str]:
    """What this Python itself needs to start, of our environment: for programs that get nothing else of it."""
    return {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
