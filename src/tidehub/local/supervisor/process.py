"""One process of a part: started through the launcher, what it prints brought into its log, its end awaited.

And the end of children that are not ours by birth: users' processes whose parent (hub, gateway) was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import math
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from tidehub.listening import passing
from tidehub.local.launching import Order, launcher_command, packed
from tidehub.local.logs.policy import Bucket
from tidehub.local.logs.rotating import LineCutter, RotatingLog
from tidehub.local.supervisor.platform import Component
from tidehub.printable import printable
from tidehub.system.processes import children_of, interpreter_environment, start_ticks, wait_end

OOM_SCORE = -500
"""The platform's parts after everything else, when the whole machine runs out (proc(5): -1000 to 1000)."""
_DRAIN = 1.0
"""Seconds that the rest of the output may take after the end: a grandchild may hold the pipe open."""
REMEMBERED_LINES = 200
REMEMBERED_OF_A_LINE = 4096
PART_RATE, PART_BURST = 2.0 * 2**20, 16.0 * 2**20
"""Bytes a second, and at once, that a part may print; one that prints more waits, and the supervisor does not."""

_TRACEBACK = "Traceback (most recent call last)"
_CAUSES = ("traceback (most recent call last)", "critical", "fatal", "error", "cannot", "failed", "refused")
_SET_CHILD_SUBREAPER = 36
"""linux/prctl.h"""


class Process:
    """A running part. Call `start` in the main thread: the kernel ties a child's life to its thread."""

    def __init__(
        self, popen: subprocess.Popen[bytes], pipe: LogPipe, transport: asyncio.BaseTransport
    ) -> None:
        self.popen = popen
        self.pid = popen.pid
        self._started = start_ticks(popen.pid) or 0
        self._pipe = pipe
        self._transport = transport
        self._ended = asyncio.create_task(self._wait(), name=f"end of {popen.pid}")

    @classmethod
    async def start(
        cls,
        component: Component,
        log: RotatingLog,
        redact: Callable[[bytes], bytes],
        born: Callable[[subprocess.Popen[bytes]], None],
    ) -> Process:
        """Start it. `born` gets the process before anything can collect its end. Raises `OSError`."""
        sockets = [one.fileno() for one in component.sockets.values()]
        order = packed(
            Order(
                argv=list(component.argv),
                env={**component.env, **passing(component.sockets)},
                cwd=str(component.cwd),
                groups=component.groups,
                uid=component.uid,
                gid=component.uid if component.gid is None else component.gid,
                capabilities=component.capabilities,
                # A part that stays what we are may start programs with other rights.
                no_new_privileges=component.uid is not None,
                parent=os.getpid(),
                descriptors={number: number for number in sockets},
                oom_score_adj=OOM_SCORE if os.geteuid() == 0 else None,
            )
        )
        try:
            popen = subprocess.Popen(
                launcher_command(order),
                env=interpreter_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(order, *sockets),
                start_new_session=True,
            )
        finally:
            os.close(order)
        born(popen)
        try:
            transport, pipe = await asyncio.get_running_loop().connect_read_pipe(
                lambda: LogPipe(log, redact), popen.stdout
            )
        except BaseException:
            popen.kill()
            raise
        return cls(popen, pipe, transport)

    @property
    def lines(self) -> list[str]:
        """The last lines that it printed."""
        return list(self._pipe.lines)

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    async def ended(self) -> str:
        """Wait for its end; says how, in words."""
        return await asyncio.shield(self._ended)

    def signal(self, number: signal.Signals) -> None:
        """Send to the process alone."""
        if self.running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it and the helpers that share its process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.signal(signal.SIGKILL)

    async def _wait(self) -> str:
        await wait_end(self.pid, self._started, math.inf)
        self.popen.wait()
        # Helpers left in its process group would hold its port. Users' processes have their own sessions.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._pipe.ended.wait(), _DRAIN)
        self._transport.close()
        return how_it_ended(self.popen.returncode)


def how_it_ended(code: int) -> str:
    """An exit status as `subprocess` gives it (negative: a signal), in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


class LogPipe(asyncio.Protocol):
    """What one process prints: each line redacted, written to its log, the last ones remembered.

    A process that prints more than `rate` is not read for a while, so that it waits and the supervisor goes on.
    """

    def __init__(
        self,
        log: RotatingLog,
        redact: Callable[[bytes], bytes],
        *,
        rate: float = PART_RATE,
        burst: float = PART_BURST,
    ) -> None:
        self._log = log
        self._cutter = LineCutter(redact)
        self._bucket = Bucket(rate, burst, time.monotonic())
        self._transport: asyncio.BaseTransport | None = None
        self.lines: deque[str] = deque(maxlen=REMEMBERED_LINES)
        """As text without control characters, the end of very long ones cut off."""
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._take(self._cutter.feed(data))
        now = time.monotonic()
        self._bucket.take(len(data), now)
        wait = self._bucket.wait(now)
        if wait and isinstance(self._transport, asyncio.ReadTransport):
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(wait, self._go_on, self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._take(self._cutter.rest())
        self.ended.set()

    @staticmethod
    def _go_on(transport: asyncio.ReadTransport) -> None:
        if not transport.is_closing():
            transport.resume_reading()

    def _take(self, data: bytes) -> None:
        if not data:
            return
        self._log.write(data)
        for line in data[:-1].rsplit(b"\n", REMEMBERED_LINES)[-REMEMBERED_LINES:]:
            self.lines.append(printable(line[:REMEMBERED_OF_A_LINE]).rstrip())


def lines_that_matter(lines: Sequence[str], most: int = 12) -> list[str]:
    """The last lines from which a user sees why a process failed: from the last cause on, at most `most`.

    Of a longer stretch (a traceback) its end is taken, because the exception stands there.
    """
    told = [line for line in lines if line.strip()]
    tail = told[-4 * most :]
    causes = [number for number, line in enumerate(tail) if any(word in line.lower() for word in _CAUSES)]
    if not causes:
        return told[-most:]
    traceback = [number for number in causes if tail[number].startswith(_TRACEBACK)]
    first = traceback[-1] if traceback else causes[max(0, len(causes) - most)]
    return tail[first:][-most:]


def become_subreaper(wanted: bool = True) -> bool:
    """Have orphaned descendants handed to this process, or no longer; false where the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_SET_CHILD_SUBREAPER, ctypes.c_ulong(int(wanted)), 0, 0, 0) == 0)


def reap(own: Mapping[int, subprocess.Popen[bytes]]) -> list[int]:
    """Collect every ended child; those of `own` keep their exit status. Returns the orphans' pids.

    Without it an ended notebook server stays a zombie, and hub and gateway would take it for alive. Children of
    our own session were started by a library in this process, which waits for them itself: they are left alone,
    and must not hide the others (waitid(2) with P_ALL would show the first ended child again and again).
    """
    reaped: list[int] = []
    for pid in _ended_children():
        if (process := own.get(pid)) is not None:
            process.poll()
        elif not _is_of_our_session(pid):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            reaped.append(pid)
    return reaped


def _ended_children() -> list[int]:
    """Pids of children of this process that ended and wait to be collected."""
    try:
        if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return []
    except ChildProcessError:
        return []
    return [child.pid for child in children_of(os.getpid()) if child.state == "Z"]


def _is_of_our_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == os.getsid(0)
    except ProcessLookupError:
        return False
