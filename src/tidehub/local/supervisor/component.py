"""What the supervisor must know of one part of the platform."""

from __future__ import annotations

import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tidehub.local.supervisor.pace import Pace


@dataclass(frozen=True)
class Ready:
    """The answer to "does this part work?": a successful request, or why not, in words for a user."""

    ok: bool
    why: str = ""


Check = Callable[[], Awaitable[Ready]]
Hook = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Probe:
    """How a hung process is found after it was ready. Times in seconds.

    `check` asks the part itself, not through other parts: a proxy that is down must not kill the hub. Without
    one, `Component.ready` is asked. Nothing is counted while a part that it stands on (`after`) is not ready, or
    while the machine leaves the part no time; see `pace.py`.
    """

    check: Check | None = None
    interval: float = 3.0
    timeout: float = 3.0
    failures: int = 5

    def most(self, pace: Pace) -> int:
        """Failed probes after which a part is killed: a stopped process at once, one that works on later."""
        if pace is Pace.STOPPED:
            return min(2, self.failures)
        return self.failures * 2 if pace is Pace.WORKS else self.failures


@dataclass(frozen=True)
class Component:
    """One process under supervision. Times in seconds."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(repr=False)
    """The whole environment of the process: nothing is inherited."""
    ready: Check
    after: Sequence[str] = ()
    """Parts that must be ready before this one starts; it is stopped before them."""
    on_restart: Hook | None = None
    """Called when it is ready again after a restart, never at the first start."""
    before_start: Hook | None = None
    """Called before every start; what it raises counts as a failed start."""
    alongside: Hook | None = None
    """Work that goes on beside the process for as long as the platform runs (watching a certificate)."""
    uid: int | None = None
    gid: int | None = None
    groups: Sequence[str] = ()
    """Directories of the control groups that it joins."""
    capabilities: Sequence[int] = ()
    """Numbers of Linux capabilities kept across the change of uid (capabilities(7)), for instance 10."""
    sockets: Mapping[str, socket.socket] = field(default_factory=dict)
    """Sockets that listen for it, under the names by which it asks for them (`listening.inherited`)."""
    cwd: Path = Path("/")
    log: Path | None = None
    """Default: the supervisor's log directory, `<name>.log`."""
    probe: Probe | None = Probe()
    start_timeout: float = 60.0
    """How long it may take to be ready."""
    stop_timeout: float = 10.0
    """How long it may take to end before it is killed."""
    stop_signal: signal.Signals = signal.SIGTERM

    def starts_otherwise(self, other: Component) -> bool:
        """Whether its process would be another one than `other`'s: program, environment, rights, sockets."""
        return any(one != two for one, two in zip(self._start(), other._start(), strict=True))

    def _start(self) -> tuple[object, ...]:
        return (
            list(self.argv),
            dict(self.env),
            self.cwd,
            (self.uid, self.gid),
            list(self.groups),
            list(self.capabilities),
            {name: one.fileno() for name, one in self.sockets.items()},
        )
