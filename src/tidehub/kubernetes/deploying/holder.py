"""Who works: shown to other operators, and telling this machine whether a holder is still alive."""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from tidehub.system.processes import boot_id, start_ticks


@dataclass(frozen=True)
class Holder:
    """A process of an operator, as it stands in a lease: `anna@laptop, process 4711, 5d41402abc4b.81122`."""

    user: str
    """For example `anna@laptop`."""
    process: int
    machine: str
    """Digest of this boot of this machine and its process namespace; empty where that cannot be known."""
    started: str
    """Start time of the process, in the kernel's ticks."""

    @property
    def identity(self) -> str:
        """What stands in `holderIdentity`."""
        return f"{self.user}, process {self.process}, {self.machine or 'unknown'}.{self.started or '0'}"

    def knows_is_gone(self, identity: str) -> bool:
        """Whether that holder was a process of this machine that has ended. Never True for what cannot be known."""
        try:
            _, process, rest = identity.rsplit(", ", 2)
            machine, started = rest.rsplit(".", 1)
            number = int(process.removeprefix("process "))
        except ValueError:
            return False
        if not self.machine or machine != self.machine:
            return False
        return _started(number) != started


def this_process() -> Holder:
    """Who runs this."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    name = f"{user}@{socket.gethostname()}".replace(", ", " ")
    return Holder(name, os.getpid(), _machine(), _started(os.getpid()))


def _machine() -> str:
    try:
        # Two containers may share a boot and a name, but not the numbers of processes.
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
    return hashlib.sha256(f"{boot_id()} {namespace}".encode()).hexdigest()[:12] if boot_id() else ""


def _started(process: int) -> str:
    """Empty for a process that is gone, and for a zombie: it does nothing any more."""
    return str(start_ticks(process) or "")
