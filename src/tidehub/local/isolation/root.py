"""As root: every user is a uid of their own, in control groups of their own. No accounts are made."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.local.launching import Order, OwnPlaces
from tidehub.system.processes import interpreter_environment
from tidehub.system.sweeper import ROUND
from tidehub.system.trash import SWEEPER

from .accounts import Accounts, system_accounts
from .base import Isolation
from .cgroup_files import Group
from .cgroups import read
from .launches import ProcessHandle
from .model import LaunchSpec
from .sandbox import outermost
from .spawning import Gate, StartError
from .trees import Ground, Known
from .users import Entry

_IPC_RMID = 0
"""linux/ipc.h"""
_MOST = 100_000
"""A user chooses how many segments there are; what is beyond this waits for the next time."""
NEEDED = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
}
"""capabilities(7): numbers from linux/capability.h."""


class RootIsolation(Isolation):
    """Users have uids from the reserved range; the kernel's ordinary rules keep them apart."""

    kind = "root"

    def _identity(self, entry: Entry) -> tuple[int, int]:
        return entry.number, entry.number

    def _sockets_gid(self) -> int | None:
        return self.proxy_gid

    def _admit(self, spec: LaunchSpec) -> None:
        uids = self.ground.uids
        if spec.user.uid not in uids or spec.user.gid != spec.user.uid:
            raise TidehubError(
                f"cannot start {spec.name!r} as uid {spec.user.uid}, gid {spec.user.gid}",
                expected=f"a user of this platform, uid and gid alike, {uids.start}-{uids.stop - 1}",
            )

    def _rlimits(self, spec: LaunchSpec) -> dict[str, int]:
        limits = super()._rlimits(spec)
        if not self.capabilities.processes and spec.limits.processes is not None:
            # The kernel counts this one per uid, over all of the user's servers and workers.
            limits["RLIMIT_NPROC"] = spec.limits.processes
        return limits

    def _order(self, spec: LaunchSpec, group: Group | None, mark: str) -> Order:
        order = super()._order(spec, group, mark)
        return replace(order, uid=spec.user.uid, gid=spec.user.gid, own=self._own_places(spec, order.env))

    def _accounts(self) -> Accounts:
        return system_accounts()

    def _own_places(self, spec: LaunchSpec, env: Mapping[str, str]) -> OwnPlaces | None:
        """What the program has for itself; None where the kernel refuses namespaces."""
        if self._no_namespaces:
            return None
        accounts = self._accounts().with_user(env["USER"], spec.user, env["SHELL"])
        return OwnPlaces(
            files={"/etc/passwd": accounts.passwd, "/etc/group": accounts.group},
            temporary=str(self._temporary(spec)),
            shared_memory=spec.limits.memory,
            kept=[
                str(path)
                for path in outermost([spec.user.home, self.ground.run, *spec.readable, *spec.writable])
            ],
        )

    @cached_property
    def _no_namespaces(self) -> str:
        """Why programs cannot have namespaces of their own here, or "": tried with the launcher itself."""
        return namespace_refusal(self.ground.private)

    def _end(self, handle: ProcessHandle, known: Known) -> None:
        line = self._launches.find(handle) if self._no_namespaces else None
        super()._end(handle, known)
        if line is not None and not self._has_running(line.user):
            clear_shared_memory(self.users.enrol(line.user).number)

    def gaps(self) -> list[str]:
        """See `Isolation.gaps`."""
        lines = self._common_gaps()
        if self._no_namespaces:
            lines.append(
                "Users share /dev/shm, /tmp and System V shared memory with all others; what a user leaves in"
                f" memory is removed with their last program, and counts for no limit until then:"
                f" {self._no_namespaces}."
            )
            lines.append(
                "Users' programs find no entry for their user in /etc/passwd: the prompt says `I have no name!`, and"
                " ssh, and git over ssh, refuse."
            )
        if not self.capabilities.processes:
            lines.append("The number of processes is limited per user, not per server or worker.")
        if not _processes_hidden():
            lines.append(
                "Users can see each other's command lines in process lists (not environments, files or memory)."
            )
        return lines


def namespace_refusal(scratch: Path) -> str:
    """Why the launcher cannot make namespaces here (a container without CAP_SYS_ADMIN), or "" if it can."""
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        files = dict.fromkeys(("/etc/passwd", "/etc/group"), "")
        own = OwnPlaces(temporary=directory, shared_memory=1 << 20, files=files)
        order = Order(["/bin/true"], {}, "/", uid=0, gid=0, own=own, gate=True)
        nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            with Gate(order, log=nothing) as gate:
                gate.ready()
        except StartError as error:
            return error.what.removeprefix("making its namespaces: ")
        finally:
            os.close(nothing)
    return ""


def root_refusal(ground: Ground, *, status: str | None = None, uid_map: str | None = None) -> str:
    """Why this process cannot act for users although it is root, or "" if it can (the texts are for tests)."""
    status = read("/proc/self/status") if status is None else status
    uid_map = read("/proc/self/uid_map") if uid_map is None else uid_map
    held = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")), 0)
    missing = [name for name, bit in NEEDED.items() if not held >> bit & 1]
    if missing:
        return f"this root user lacks {', '.join(missing)}"
    first, last = ground.uids.start - 2, ground.uids.stop - 1
    for line in uid_map.splitlines():
        inside, _, count = (int(word) for word in line.split())
        if inside <= first and last < inside + count:
            return ""
    return f"uids {first}-{last} do not exist in this user namespace (a rootless container)"


def _processes_hidden() -> bool:
    """Whether /proc is mounted with hidepid (proc(5)): users then see only their own processes."""
    for line in read("/proc/self/mountinfo").splitlines():
        front, _, back = line.partition(" - ")
        if front.split(" ")[4:5] == ["/proc"] and back.startswith("proc "):
            return any(f"hidepid={level}" in line for level in ("2", "invisible", "4", "ptraceable"))
    return False


def clear_shared_memory(uid: int) -> None:
    """Remove what `uid` owns in shared memory and message queues. Root only, and with a user's last process only.

    Where users have no namespaces of their own, files in /dev/shm and System V segments live on without a process, and
    the kernel charges them to a control group that may be gone.
    """
    if uid <= 0:
        raise ValueError("only a user's own memory is ever cleared")
    _clear_segments(uid)
    for place in (Path("/dev/shm"), Path("/dev/mqueue")):
        _clear_files(place, uid)


def _clear_segments(uid: int) -> None:
    """Segments with processes attached go when those detach (shmctl(2)). Columns as in proc_sysvipc(5)."""
    libc = ctypes.CDLL(None, use_errno=True)
    controls: tuple[tuple[str, Callable[[int], int]], ...] = (
        ("shm", lambda number: libc.shmctl(number, _IPC_RMID, None)),
        ("msg", lambda number: libc.msgctl(number, _IPC_RMID, None)),
        ("sem", lambda number: libc.semctl(number, 0, _IPC_RMID)),
    )
    for kind, control in controls:
        lines: list[str] = []
        with contextlib.suppress(OSError):
            lines = Path("/proc/sysvipc", kind).read_text(encoding="ascii").splitlines()
        if not lines:
            continue
        columns = lines[0].split()
        for line in lines[1 : _MOST + 1]:
            row = dict(zip(columns, line.split(), strict=False))
            if row.get("uid") == str(uid):
                control(int(row[f"{kind}id"]))


def _clear_files(place: Path, uid: int) -> None:
    """Files and whole directories of `uid` in `place`, where everybody may write: by a process with that user's rights,
    so the kernel keeps it from all others'.
    """
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            subprocess.run(
                [sys.executable, "-I", "-S", SWEEPER, str(descriptor), str(uid)],
                env=interpreter_environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(descriptor,),
                timeout=2 * ROUND,
            )
        finally:
            os.close(descriptor)
