"""One process of a part: started through the launcher, its output piped to its log, its end awaited."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable

from tidehub.listening import passing
from tidehub.local.launching import Order, launcher_command, packed
from tidehub.local.supervisor.component import Component
from tidehub.local.supervisor.log import LogPipe, RotatingLog
from tidehub.system.processes import interpreter_environment

OOM_SCORE = -500
"""The platform's parts after everything else, when the whole machine runs out (proc(5): -1000 to 1000)."""
_POLL = 0.2
_DRAIN = 1.0
"""Seconds that the rest of the output may take after the end: a grandchild may hold the pipe open."""


class Process:
    """A running part. Call `start` in the main thread: the kernel ties a child's life to its thread."""

    def __init__(
        self, popen: subprocess.Popen[bytes], pipe: LogPipe, transport: asyncio.BaseTransport
    ) -> None:
        self.popen = popen
        self.pid = popen.pid
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
        await self._exit()
        # Helpers left in its process group would hold its port. Users' processes have their own sessions.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._pipe.ended.wait(), _DRAIN)
        self._transport.close()
        return how_it_ended(self.popen.returncode)

    async def _exit(self) -> None:
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            # Some container runtimes forbid pidfd_open.
            while self.popen.poll() is None:
                await asyncio.sleep(_POLL)
            return
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        loop.add_reader(descriptor, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        self.popen.wait()


def how_it_ended(code: int) -> str:
    """An exit status as `subprocess` gives it (negative: a signal), in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
