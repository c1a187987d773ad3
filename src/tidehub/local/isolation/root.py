"""As root: every user is a uid of their own, in control groups of their own. No accounts are made."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.local.launching import Order, OwnPlaces

from . import sweep
from .base import Ground, Isolation
from .cgroup_files import Group
from .left_memory import clear_shared_memory
from .model import LaunchSpec
from .process import ProcessHandle
from .sandbox import outermost
from .spawning import Gate, StartError, open_gate
from .users import Entry

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

    @contextlib.contextmanager
    def _waiting(
        self, spec: LaunchSpec, group: Group | None, mark: str, log: int
    ) -> Iterator[tuple[Gate, int, int]]:
        order = Order(
            argv=spec.argv,
            env=self._environment(spec, mark),
            cwd=str(spec.cwd),
            groups=group.state if group else (),
            rlimits=self._rlimits(spec),
            uid=spec.user.uid,
            gid=spec.user.gid,
            own=self._own_places(spec),
            gate=True,
        )
        with open_gate(order, log=log) as gate:
            gate.ready()
            yield gate, gate.process.pid, 0

    def _own_places(self, spec: LaunchSpec) -> OwnPlaces | None:
        """What the program has for itself; None where the kernel refuses namespaces."""
        if self._no_namespaces:
            return None
        return OwnPlaces(
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

    def _end(self, handle: ProcessHandle, known: sweep.Known) -> None:
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
        if not self.capabilities.processes:
            lines.append("The number of processes is limited per user, not per server or worker.")
        if not _processes_hidden():
            lines.append(
                "Users can see each other's command lines in process lists (not environments, files or memory)."
            )
        if self.ground.cgroups is None:
            lines.append("A process that detaches itself and empties its environment may outlive its server.")
        return lines


def namespace_refusal(scratch: Path) -> str:
    """Why the launcher cannot make namespaces here (a container without CAP_SYS_ADMIN), or "" if it can."""
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        own = OwnPlaces(temporary=directory, shared_memory=1 << 20)
        order = Order(["/bin/true"], {}, "/", uid=0, gid=0, own=own, gate=True)
        nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            with open_gate(order, log=nothing) as gate:
                gate.ready()
        except StartError as error:
            return error.what.removeprefix("making its namespaces: ")
        finally:
            os.close(nothing)
    return ""


def root_refusal(ground: Ground, *, status: str | None = None, uid_map: str | None = None) -> str:
    """Why this process cannot act for users although it is root, or "" if it can (the texts are for tests)."""
    status = _read("/proc/self/status") if status is None else status
    uid_map = _read("/proc/self/uid_map") if uid_map is None else uid_map
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
    for line in _read("/proc/self/mountinfo").splitlines():
        front, _, back = line.partition(" - ")
        if front.split(" ")[4:5] == ["/proc"] and back.startswith("proc "):
            return any(f"hidepid={level}" in line for level in ("2", "invisible", "4", "ptraceable"))
    return False


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
