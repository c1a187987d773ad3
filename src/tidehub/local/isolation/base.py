"""What all isolations share: users, control groups, the way from a spec to a handle, and the end of a tree.

All methods may be called from any thread. `launch` waits for a new interpreter (about 30 ms, more on a busy machine):
callers on an event loop use `start`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tidehub.errors import TidehubError
from tidehub.local.disk_quota import DiskQuota
from tidehub.local.logs.lines import tail
from tidehub.local.logs.pipes import HeldPipes, open_pipe, settle
from tidehub.system.files import PASSABLE_DIRECTORY, make_directory
from tidehub.system.processes import boot_id, read_stat, send, wait_end

from . import sweep
from .cgroup_files import Group
from .cgroups import Capabilities, Cgroups
from .homes import make_home, make_server_directory, make_temporary, run_directory
from .launches import Launched, Launches
from .model import Ending, LaunchSpec, Usage, User
from .process import ProcessHandle, handle_alive
from .spawning import Gate, StartError
from .uid_claims import UidClaims
from .users import DEFAULT_UIDS, Entry, Users, proxy_uid

_COLLECT_SECONDS = 2.0
_REMEMBERED = 500
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
"""Names that programs and shells take as they are."""


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
    proxy_gid: int | None = None
    claims: UidClaims | None = None

    @property
    def users_file(self) -> Path:
        return self.private / "people.sqlite"


class Isolation(ABC):
    """Starts users' processes with their identity and limits, and knows their ends."""

    kind = ""
    holds_tree = False
    """Whether the isolation itself keeps a tree together (a pid namespace), without a cgroup."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.users = Users(ground.users_file, homes=ground.homes, uids=ground.uids, claims=ground.claims)
        self._launches = Launches(self.users)
        self._groups = ground.cgroups or Cgroups((), 0, "")
        self.capabilities = ground.cgroups.capabilities() if ground.cgroups else Capabilities()
        self._children: dict[tuple[int, int], subprocess.Popen[bytes]] = {}
        self._endings: dict[tuple[int, int], Ending] = {}
        self._lock = threading.Lock()
        self._held = HeldPipes()

    # Users

    def user(self, name: str) -> User:
        """The user of this hub user name, with their home; made at the first call.

        Raises `TidehubError` if the name or the home that stands there cannot be used.
        """
        entry = self.users.enrol(name)
        uid, gid = self._identity(entry)
        if not self.ground.homes.is_dir():
            make_directory(self.ground.homes, PASSABLE_DIRECTORY)
        return User(name, uid, gid, make_home(self.ground.homes, entry.directory, uid=uid, gid=gid))

    def run_directory(self, user: User) -> Path:
        """Where the directories of this user's servers are, made or not. It is ours."""
        return run_directory(self.ground.run, self.users.enrol(user.name).number)

    def make_server_directory(self, user: User, name: str) -> Path:
        """A new `run_directory(user)/name`, the user's own, for the sockets of one server; a former one is thrown
        away. The server's socket in it must be made group-writable (0660), because connecting needs write
        permission; its group comes from the directory and is the proxy's. Raises `TidehubError`."""
        entry = self.users.enrol(user.name)
        uid, gid = self._identity(entry)
        return make_server_directory(
            self.ground.run, entry.number, name, uid=uid, gid=gid, sockets_gid=self._sockets_gid()
        )

    def _sockets_gid(self) -> int | None:
        """The group that may connect to users' sockets; None where the proxy is of our own uid."""
        return None

    def _identity(self, entry: Entry) -> tuple[int, int]:
        del entry
        return os.getuid(), os.getgid()

    @property
    def proxy_gid(self) -> int:
        """The group that may connect to users' sockets."""
        return proxy_uid(self.ground.uids) if self.ground.proxy_gid is None else self.ground.proxy_gid

    # Starting

    def launch(self, spec: LaunchSpec) -> ProcessHandle:
        """Start `spec`; returns when the program itself has been started.

        Raises `TidehubError` with the step that failed; then nothing is left of it.
        """
        spec.check()
        self._clean_former(spec)
        self._admit(spec)
        log = open_pipe(self.ground.log_pipes, self.ground.logs, spec.log, spec.user.home.name)
        group: Group | None = None
        try:
            self._held.hold(log)
            if self.ground.cgroups is not None:
                number = self.users.enrol(spec.user.name).number
                group = self.ground.cgroups.create(number, spec.parent, spec.name, spec.limits)
            return self._launch_in(spec, group, log)
        except BaseException as error:
            if group is not None:
                group.kill()
                self._groups.remove(group)
            if isinstance(error, StartError):
                raise TidehubError(
                    f"cannot start {spec.name!r} for {spec.user.name!r}: {error.what}", fix=error.fix
                ) from error
            raise
        finally:
            os.close(log)

    def _clean_former(self, spec: LaunchSpec) -> None:
        """What a former program of this name left behind (a crashed server's kernels) must not live beside it."""
        for line in self._launches.of(spec.user.name):
            same = (line.parent, line.name) == (spec.parent, spec.name)
            if same and not self.alive(line.handle):
                self.clean(line.handle)

    def _launch_in(self, spec: LaunchSpec, group: Group | None, log: int) -> ProcessHandle:
        mark = "" if group is not None or self.holds_tree else os.urandom(12).hex()
        with self._waiting(spec, group, mark, log) as (gate, pid, keeper):
            stat, first = read_stat(pid), read_stat(keeper) if keeper else None
            handle = ProcessHandle(
                pid=pid,
                started=stat.started if stat else 0,
                cgroup=group.state if group else (),
                boot=boot_id(),
                kills_at_start=group.memory_kills() if group else 0,
                memory_limit=spec.limits.memory,
                mark=mark,
                keeper=keeper,
                keeper_started=first.started if first else 0,
                program=spec.argv[0],
            )
            self._launches.record(spec, handle, refuse=self._refusal(spec))
            try:
                gate.go()
            except BaseException:
                send(handle.pid, handle.started, signal.SIGKILL)
                self._launches.forget(handle)
                raise
            with self._lock:
                self._children[(handle.pid, handle.started)] = gate.process
        return handle

    async def start(self, spec: LaunchSpec) -> ProcessHandle:
        """`launch` off the event loop. If the caller is cancelled meanwhile, what was started is ended."""
        work = asyncio.ensure_future(asyncio.to_thread(self.launch, spec))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            work.add_done_callback(self._abandon)
            raise

    def _abandon(self, work: asyncio.Future[ProcessHandle]) -> None:
        if not work.cancelled() and work.exception() is None:
            self.clean(work.result())

    @abstractmethod
    def _waiting(
        self, spec: LaunchSpec, group: Group | None, mark: str, log: int
    ) -> contextlib.AbstractContextManager[tuple[Gate, int, int]]:
        """A process at the gate; the pid of the program to be; that of its pid namespace's first process, or 0."""

    def _admit(self, spec: LaunchSpec) -> None:  # noqa: B027 - most isolations refuse nothing
        """Refuse early what `_refusal` would refuse late, or what this isolation can never start."""

    def _refusal(self, spec: LaunchSpec) -> Callable[[Sequence[Launched]], None] | None:
        """What raises `TidehubError` if `spec` may not run beside everything that was launched; None: it always may."""
        del spec
        return None

    def _rlimits(self, spec: LaunchSpec) -> dict[str, int]:
        """Per-process stand-ins for limits that no cgroup holds here.

        RLIMIT_DATA counts private writable memory (getrlimit(2), since Linux 4.7), so big arrays too.
        """
        memory, file_size = spec.limits.memory, spec.limits.file_size
        limits = {} if self.capabilities.memory or memory is None else {"RLIMIT_DATA": memory}
        return limits | ({} if file_size is None else {"RLIMIT_FSIZE": file_size})

    def _temporary(self, spec: LaunchSpec) -> Path:
        """The user's own /tmp; a new one where nothing of theirs runs."""
        busy = self._has_running(spec.user.name)
        directory = self.users.enrol(spec.user.name).directory
        uid, gid = spec.user.uid, spec.user.gid
        return make_temporary(self.ground.homes, directory, fresh=not busy, uid=uid, gid=gid)

    def _environment(self, spec: LaunchSpec, mark: str) -> dict[str, str]:
        """`spec.env`, and what a login would have set; there may be no passwd entry to look up."""
        user = spec.user.name if _PLAIN.fullmatch(spec.user.name) else spec.user.home.name
        shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
        login = {"HOME": str(spec.user.home), "USER": user, "LOGNAME": user}
        marked = {sweep.MARK_VARIABLE: mark} if mark else {}
        return {"SHELL": shell, **spec.env, **login, **marked}

    # Watching

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
        return self._groups.group(handle.cgroup).usage() if handle.cgroup else sweep.usage(handle)

    def running(self, parent: str | None = None) -> list[Launched]:
        """Everything started for users that has not ended, by whichever process of the platform."""
        return [line for line in self._launches.all(parent) if self.alive(line.handle)]

    async def log_tail(self, log: Path, lines: int) -> str:
        """The last lines of a program's log in one, without control characters; "" if there are none.

        What the program has just written is still on its way through the pipe: waits for that, at most a second.
        """
        await asyncio.to_thread(settle, self.ground.log_pipes, self.ground.logs, log)
        return tail(log, lines)

    def mend(self, keep: Callable[[list[dict[str, Any]]], None]) -> None:
        """Take out of the table of started processes what cannot be read, see `Launches.mend`."""
        self._launches.mend(keep)

    # Ending

    async def stop(self, handle: ProcessHandle, grace: float = 10.0) -> None:
        """End the whole tree: SIGTERM to its program, `grace` seconds, then SIGKILL to all that is left.

        Does nothing to a tree that is gone. Raises `TidehubError` if something does not end.
        """
        known: sweep.Known = frozenset()
        if self.alive(handle):
            if not handle.cgroup:
                known = await asyncio.to_thread(sweep.members, handle)
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

    # The platform's own groups

    def enter_platform(self) -> None:
        """Move this process, the supervisor, into the platform's own group, if there are groups."""
        if self.ground.cgroups is not None:
            self.ground.cgroups.enter("supervisor")

    def leave_platform(self) -> None:
        """Remove the platform's own groups, as far as nothing runs in them."""
        if self.ground.cgroups is not None:
            self.ground.cgroups.dismantle()
            self.ground.cgroups.leave()

    def part_groups(self, part: str) -> tuple[str, ...]:
        """The control groups that a part of the platform joins."""
        return () if self.ground.cgroups is None else self.ground.cgroups.part(part).state

    def dismantle(self) -> None:
        """Remove the platform's empty control groups."""
        self._groups.dismantle()

    def _end(self, handle: ProcessHandle, known: sweep.Known) -> None:
        # Before the kill: a sandbox's outer process, which knows the exit code, is in the group too.
        ending = None if self.alive(handle) else self.ending(handle)
        group = self._groups.group(handle.cgroup)
        if handle.cgroup:
            group.kill()
        else:
            sweep.kill_all(handle, known)
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

    # Telling

    @abstractmethod
    def gaps(self) -> list[str]:
        """What this machine cannot enforce, one honest line each."""

    def _common_gaps(self) -> list[str]:
        able, why = self.capabilities, self.ground.no_cgroups
        because = f": {why}" if why else ""
        lines = []
        if not able.memory:
            lines.append(
                "Memory limits hold for each process by itself, not for a server or worker with all its"
                f" processes{because}."
            )
        elif not able.swap and _swap_in_use():
            lines.append("Memory limits do not count swap: this kernel does not account for it.")
        if self.ground.cgroups is not None:
            lines += self.ground.cgroups.gaps()
        if not able.cpu:
            lines.append(f"CPU limits and guarantees are not enforced{because}.")
        if DiskQuota.of(self.ground.homes) is None:
            lines.append(
                "The kernel does not limit what a user writes to the disk: notebooks.home.size is looked at when a"
                " server or cluster is asked for, and nothing new is started when the disk is nearly full."
            )
        lines.append(
            "Users' programs can reach every port on this machine's loopback address: what listens there must"
            " ask for a login."
        )
        return lines


def _swap_in_use() -> bool:
    with contextlib.suppress(OSError):
        return len(Path("/proc/swaps").read_text(encoding="utf-8").splitlines()) > 1
    return False
