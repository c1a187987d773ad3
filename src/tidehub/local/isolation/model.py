"""What callers say to an isolation and what it answers: plain values, no machine."""

from __future__ import annotations

import signal as signals
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.site.units import about_size


@dataclass(frozen=True)
class User:
    """Somebody who logs in. Unprivileged, `uid` and `gid` are those of the platform itself."""

    name: str
    uid: int
    gid: int
    home: Path


@dataclass(frozen=True)
class Limits:
    """What one process tree may use. None means no limit. Memory in bytes, cores as a float."""

    memory: int | None = None
    memory_guarantee: int | None = None
    cores: float | None = None
    cores_guarantee: float | None = None
    processes: int | None = None
    """Processes and threads together, as the kernel counts tasks."""
    file_size: int | None = None
    """Bytes that a file may have which a program writes (getrlimit(2), RLIMIT_FSIZE)."""


@dataclass(frozen=True)
class LaunchSpec:
    """One program to start as one user."""

    name: str
    user: User
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    log: Path
    """Below the logs of the platform. The user's process gets a pipe to its writer, never the file."""
    limits: Limits = field(default_factory=Limits)
    readable: Sequence[Path] = ()
    """What a sandbox must show besides the system: the software environment."""
    writable: Sequence[Path] = ()
    parent: str = "servers"
    """The family of the process: "servers" (the hub's) or "clusters" (the gateway's)."""

    def check(self) -> None:
        """Raise `TidehubError` when this can never be started."""
        faults = [
            (not self.argv or not self.argv[0], "an empty command line"),
            (any("\0" in word for word in self.argv), "a NUL byte in the command line"),
            (
                any("\0" in k or "\0" in v or "=" in k or not k for k, v in self.env.items()),
                "a variable that no environment can hold",
            ),
            (not self.cwd.is_absolute(), "a relative working directory"),
            (not self.log.is_absolute(), "a relative log path"),
            (not self.name or "\0" in self.name, "no usable name"),
            (not self.parent.isalnum(), "no usable family (parent)"),
        ]
        for broken, what in faults:
            if broken:
                raise TidehubError(f"cannot start {self.name!r} for {self.user.name!r}: it has {what}")


@dataclass(frozen=True)
class Ending:
    """How a process tree's first process ended; None where nobody can know any more."""

    code: int | None = None
    """Exit status, when it exited by itself and we are its parent."""
    signal: int | None = None
    out_of_memory: bool = False
    limit: int | None = None
    """The memory limit it ran under, in bytes."""

    @property
    def status(self) -> int:
        """One number in the shell's convention: 128 + signal for a kill; 0 when unknown."""
        if self.signal is not None:
            return 128 + self.signal
        if self.code is not None:
            return self.code
        return 128 + signals.SIGKILL if self.out_of_memory else 0

    def words(self) -> str:
        """The ending as a user reads it."""
        if self.out_of_memory:
            return f"stopped: out of memory{f' (limit {about_size(self.limit)})' if self.limit else ''}"
        if self.signal is not None:
            try:
                name = signals.Signals(self.signal).name
            except ValueError:
                name = f"signal {self.signal}"
            return f"stopped by {name}"
        if self.code is not None:
            return "finished" if self.code == 0 else f"ended with exit code {self.code}"
        return "ended; its exit code is unknown because the platform was restarted meanwhile"


@dataclass(frozen=True)
class Usage:
    """What a process tree uses now."""

    memory: int
    """Bytes that would come free if it ended (reclaimable file cache not counted)."""
    processes: int
