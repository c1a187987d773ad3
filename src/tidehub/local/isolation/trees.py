"""What was started for users: how it is seen, and how all of it ends, however its processes detached themselves.

ipykernel and many programs start sessions of their own, so a process group is never the whole tree. In order of
trust: the cgroup; the pid namespace, whose orphans all fall to its first process; and without either, descendants,
their sessions, and whoever carries the tree's mark in its environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from tidehub.errors import TidehubError
from tidehub.system.processes import PROC, Stat, all_stats, boot_id, is_alive, send, wait_end

from .cgroups import Cgroups
from .launches import Launched, Launches, ProcessHandle, handle_alive
from .model import Ending, Usage
from .users import DEFAULT_UIDS, UidClaims, Users

_COLLECT_SECONDS = 2.0
_REMEMBERED = 500
MARK_VARIABLE = "TIDEHUB_PROCESS"
KILL_SECONDS = 10.0

Known = frozenset[tuple[int, int]]
"""Processes by pid and start time."""


class IsolationPlaces(Protocol):
    """What an isolation needs to know of the state's places."""

    @property
    def private(self) -> Path: ...
    @property
    def homes(self) -> Path: ...
    @property
    def run(self) -> Path: ...
    @property
    def logs(self) -> Path: ...
    @property
    def log_pipes(self) -> Path: ...
    @property
    def platform_id(self) -> str: ...


@dataclass(frozen=True)
class Ground:
    """The few places and numbers that an isolation stands on."""

    private: Path
    homes: Path
    run: Path
    logs: Path
    log_pipes: Path
    """Where the pipes to the writer of `logs` are; see `local/logs/pipes.py`."""
    cgroups: Cgroups | None = None
    no_cgroups: str = ""
    """Why there are none, in words."""
    uids: range = DEFAULT_UIDS
    claims: UidClaims | None = None

    @classmethod
    def of(cls, places: IsolationPlaces, **more: Any) -> Ground:
        """The ground of a state."""
        return cls(places.private, places.homes, places.run, places.logs, places.log_pipes, **more)

    @property
    def users_file(self) -> Path:
        return self.private / "people.sqlite"


class Trees:
    """The process trees of one platform, by its table of launches. Handles say themselves how they are ended."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.users = Users(ground.users_file, homes=ground.homes, uids=ground.uids, claims=ground.claims)
        self._launches = Launches(self.users)
        self._groups = ground.cgroups or Cgroups((), 0, "")
        self._children: dict[tuple[int, int], subprocess.Popen[bytes]] = {}
        self._endings: dict[tuple[int, int], Ending] = {}
        self._lock = threading.Lock()

    def alive(self, handle: ProcessHandle) -> bool:
        """Whether the tree's first process still runs."""
        return handle_alive(handle)

    def ending(self, handle: ProcessHandle) -> Ending:
        """How it ended. Ask before `clean` or `stop`, or from the same process after; all unknown while it lives."""
        key = (handle.pid, handle.started)
        if key in self._endings:
            return self._endings[key]
        if self.alive(handle):
            return Ending(limit=handle.memory_limit)
        code, number = self._exit(handle)
        killed = number == signal.SIGKILL or (code is None and number is None)
        return Ending(
            code=code,
            signal=number,
            out_of_memory=killed and self.memory_kills(handle) > 0,
            limit=handle.memory_limit,
        )

    def memory_kills(self, handle: ProcessHandle) -> int:
        """How many processes of this tree the kernel has killed for memory since it was started.

        Counts a kernel that was killed inside a server that lives on. 0 where no memory cgroup holds the tree.
        """
        return max(0, self._groups.group(handle.cgroup).memory_kills() - handle.kills_at_start)

    def _has_running(self, user: str) -> bool:
        """Whether something of this user runs; costs the same however many others there are."""
        return any(self.alive(line.handle) for line in self._launches.of(user))

    def usage(self, handle: ProcessHandle) -> Usage:
        """What the tree uses now."""
        return self._groups.group(handle.cgroup).usage() if handle.cgroup else usage(handle)

    def running(self, parent: str | None = None) -> list[Launched]:
        """Everything started for users that has not ended, by whichever process of the platform."""
        return [line for line in self._launches.all(parent) if self.alive(line.handle)]

    def mend(self, keep: Callable[[list[dict[str, Any]]], None]) -> None:
        """Take out of the table of started processes what cannot be read, see `Launches.mend`."""
        self._launches.mend(keep)

    async def stop(self, handle: ProcessHandle, grace: float = 10.0) -> None:
        """End the whole tree: SIGTERM to its program, `grace` seconds, then SIGKILL to all that is left.

        Does nothing to a tree that is gone. Raises `TidehubError` if something does not end.
        """
        known: Known = frozenset()
        if self.alive(handle):
            if not handle.cgroup:
                known = await asyncio.to_thread(members, handle)
            send(handle.pid, handle.started, signal.SIGTERM)
            await wait_end(handle.pid, handle.started, grace)
        await asyncio.to_thread(self._end, handle, known)

    def clean(self, handle: ProcessHandle) -> None:
        """Kill what is left of the tree and remove every trace of it; for trees whose first process has ended."""
        self._end(handle, frozenset())

    async def stop_all(self, parent: str | None = None, *, grace: float = 10.0) -> None:
        """`stop` everything that was ever recorded and not cleaned."""
        lines = self._launches.all(parent)
        ends = await asyncio.gather(
            *(self.stop(line.handle, grace) for line in lines), return_exceptions=True
        )
        # One that does not end keeps none of the others from being waited for.
        for failed in (end for end in ends if isinstance(end, BaseException)):
            raise failed

    async def tidy(self, parent: str, keep: Collection[ProcessHandle], *, grace: float = 10.0) -> list[str]:
        """End every tree of this family that is not in `keep`: started for a caller who died before it could
        remember. For the family's own caller, once, when it starts. Returns their names."""
        kept = {(handle.pid, handle.started) for handle in keep}
        lines = self._launches.all(parent)
        strays = [line for line in lines if (line.handle.pid, line.handle.started) not in kept]
        await asyncio.gather(*(self.stop(line.handle, grace) for line in strays))
        holding = {path for handle in keep for path in handle.cgroup}
        for group in self._groups.all(parent):
            if holding.isdisjoint(group.state):
                await asyncio.to_thread(group.kill)
                self._groups.remove(group)
        return [line.name for line in strays]

    def _end(self, handle: ProcessHandle, known: Known) -> None:
        # Before the kill: a sandbox's outer process, which knows the exit code, is in the group too.
        ending = None if self.alive(handle) else self.ending(handle)
        group = self._groups.group(handle.cgroup)
        if handle.cgroup:
            group.kill()
        else:
            kill_all(handle, known)
        # What lived until now was ended by us, whatever the kernel killed in it before.
        ending = ending or replace(self.ending(handle), out_of_memory=False)
        with self._lock:
            child = self._children.pop((handle.pid, handle.started), None)
            self._endings[(handle.pid, handle.started)] = ending
            while len(self._endings) > _REMEMBERED:
                del self._endings[next(iter(self._endings))]
        if child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_COLLECT_SECONDS)
        if handle.cgroup:
            self._groups.remove(group)
        # Ending never needs to write (a full disk): a line that stays tells of nothing that runs, and the next start of
        # this program, or the next end of all, takes it out.
        with contextlib.suppress(TidehubError):
            self._launches.forget(handle)

    def _exit(self, handle: ProcessHandle) -> tuple[int | None, int | None]:
        """Exit code and signal, if this process is the parent."""
        with self._lock:
            child = self._children.get((handle.pid, handle.started))
        if child is None:
            return None, None
        with contextlib.suppress(subprocess.TimeoutExpired):
            # A sandbox's outer process ends a moment after the inner one that the handle names.
            code = self._translate(child.wait(_COLLECT_SECONDS))
            return (None, -code) if code < 0 else (code, None)
        return None, None

    def _translate(self, code: int) -> int:
        """Popen's return code -> that of the user's program."""
        return code

    def dismantle(self) -> None:
        """Remove the platform's empty control groups."""
        self._groups.dismantle()


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


def kill_all(handle: ProcessHandle, known: Known = frozenset()) -> None:
    """SIGKILL the tree and `known` until nothing of it is left; raises `TidehubError` if something stays."""
    until = time.monotonic() + KILL_SECONDS
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
