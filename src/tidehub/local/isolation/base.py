"""What all isolations share: users, control groups, the way from a spec to a handle, and what is told of all that.

All methods may be called from any thread. `launch` waits for a new interpreter (about 30 ms, more on a busy machine):
callers on an event loop use `start`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.local.disk_quota import DiskQuota
from tidehub.local.launching import Order
from tidehub.local.logs.lines import tail
from tidehub.local.logs.pipes import HeldPipes, open_pipe, settle
from tidehub.system.files import PASSABLE_DIRECTORY, make_directory
from tidehub.system.processes import boot_id, read_stat, send

from .accounts import Accounts, account_name
from .cgroup_files import Group
from .cgroups import Capabilities
from .homes import make_home, make_server_directory, make_temporary, run_directory
from .launches import Launched, ProcessHandle
from .model import LaunchSpec, User
from .spawning import Gate, StartError
from .trees import MARK_VARIABLE, Ground, Trees
from .users import Entry, proxy_uid


class Isolation(Trees, ABC):
    """Starts users' processes with their identity and limits, and knows their ends."""

    kind = ""
    holds_tree = False
    """Whether the isolation itself keeps a tree together (a pid namespace), without a cgroup."""

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self.capabilities = ground.cgroups.capabilities() if ground.cgroups else Capabilities()
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
        return proxy_uid(self.ground.uids)

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

    @contextlib.contextmanager
    def _waiting(
        self, spec: LaunchSpec, group: Group | None, mark: str, log: int
    ) -> Iterator[tuple[Gate, int, int]]:
        """A process at the gate; the pid of the program to be; that of its pid namespace's first process, or 0."""
        with Gate(self._order(spec, group, mark), log=log) as gate:
            gate.ready()
            yield gate, gate.process.pid, 0

    def _order(self, spec: LaunchSpec, group: Group | None, mark: str) -> Order:
        return Order(
            argv=spec.argv,
            env=self._environment(spec, mark),
            cwd=str(spec.cwd),
            groups=group.state if group else (),
            rlimits=self._rlimits(spec),
            gate=True,
        )

    def _admit(self, spec: LaunchSpec) -> None:
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
        """`spec.env`, and what a login would have set."""
        user = account_name(spec.user, self._accounts().names())
        shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
        login = {"HOME": str(spec.user.home), "USER": user, "LOGNAME": user}
        marked = {MARK_VARIABLE: mark} if mark else {}
        return {"SHELL": shell, **spec.env, **login, **marked}

    def _accounts(self) -> Accounts:
        """Whom the program finds in /etc/passwd and /etc/group beside its user, as far as names may not meet."""
        return Accounts("", "")

    async def log_tail(self, log: Path, lines: int, since: int = 0) -> str:
        """The last lines of a program's log in one, without control characters; "" if there are none.

        `since`: the size in bytes that the log had before, where this run of the program begins.
        What the program has just written is still on its way through the pipe: waits for that, at most a second.
        """
        await asyncio.to_thread(settle, self.ground.log_pipes, self.ground.logs, log)
        return tail(log, lines, since)

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
        if self.ground.cgroups is None and not self.holds_tree:
            lines.append("A process that detaches itself and empties its environment may outlive its server.")
        lines.append(
            "Users' programs can reach every port on this machine's loopback address: what listens there must"
            " ask for a login."
        )
        return lines


def _swap_in_use() -> bool:
    with contextlib.suppress(OSError):
        return len(Path("/proc/swaps").read_text(encoding="utf-8").splitlines()) > 1
    return False
