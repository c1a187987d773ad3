"""All processes of a started tree, however they detached themselves, and their end.

ipykernel and many programs start sessions of their own, so a process group is never the whole tree. In order of
trust: the cgroup; the pid namespace, whose orphans all fall to its first process; and without either, descendants,
their sessions, and whoever carries the tree's mark in its environment.
"""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.system.processes import PROC, Stat, all_stats, boot_id, is_alive, send

from .model import Usage
from .process import ProcessHandle

MARK_VARIABLE = "TIDEHUB_PROCESS"
KILL_SECONDS = 10.0

Known = frozenset[tuple[int, int]]
"""Processes by pid and start time."""


def related(root: int, stats: dict[int, Stat]) -> set[int]:
    """`root`, all that descend from it, and all in sessions that any of them leads (pure)."""
    found = {root} if root in stats else set()
    grown = True
    while grown:
        more = {
            pid
            for pid, stat in stats.items()
            if pid not in found and (stat.parent in found or stat.session in found)
        }
        found |= more
        grown = bool(more)
    return found


def members(handle: ProcessHandle, stats: dict[int, Stat] | None = None) -> Known:
    """The living processes of a tree without a cgroup, the first one included."""
    if handle.boot and boot_id() and handle.boot != boot_id():
        return frozenset()
    stats = all_stats() if stats is None else stats
    found: set[int] = set()
    for pid, started in ((handle.pid, handle.started), (handle.keeper, handle.keeper_started)):
        if pid in stats and stats[pid].started == started:
            found |= related(pid, stats)
    if handle.mark:
        found |= {pid for pid in stats if pid not in found and _carries(pid, handle.mark)}
    return frozenset((pid, stats[pid].started) for pid in found if not stats[pid].ended)


def kill_all(handle: ProcessHandle, known: Known = frozenset(), seconds: float = KILL_SECONDS) -> None:
    """SIGKILL the tree and `known` until nothing of it is left; raises `TidehubError` if something stays."""
    until = time.monotonic() + seconds
    while True:
        left = members(handle) | {one for one in known if is_alive(*one)}
        if not left:
            return
        known = known | left
        for pid, started in left:
            send(pid, started, signal.SIGKILL)
        if time.monotonic() > until:
            raise TidehubError(
                f"processes {', '.join(str(pid) for pid, _ in sorted(left))} do not end after SIGKILL",
                expected="only a process that waits inside the kernel (a hung disk or network mount) can do that",
            )
        time.sleep(0.01)


def usage(handle: ProcessHandle) -> Usage:
    """The tree's use, summed over its processes; shared memory is counted in shares where the kernel tells."""
    stats = all_stats()
    found = members(handle, stats)
    return Usage(
        memory=sum(_memory(pid) for pid, _ in found),
        cpu_seconds=sum(stats[pid].cpu_seconds for pid, _ in found),
        processes=len(found),
    )


def _memory(pid: int) -> int:
    for file, key in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in (PROC / str(pid) / file).read_text(encoding="utf-8", errors="replace").splitlines():
                if line.startswith(key):
                    return int(line.split()[1]) * 1024
    return 0


def _carries(pid: int, mark: str) -> bool:
    path: Path = PROC / str(pid) / "environ"
    try:
        return f"{MARK_VARIABLE}={mark}".encode() in path.read_bytes().split(b"\0")
    except OSError:
        return False
