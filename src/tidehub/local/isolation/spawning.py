"""Start a program held at a gate: it exists and is known, but does nothing until we say go.

Between the two, the caller writes the process down. A platform that dies in between leaves nothing running: the
waiting process reads the end of the pipe and goes away.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from dataclasses import replace
from types import TracebackType

from tidehub.errors import TidehubError
from tidehub.local.launching import Order, launcher_command, packed
from tidehub.system.processes import interpreter_environment

from .sandbox import SAY, WAIT

START_SECONDS = 60.0
"""For an interpreter to start on a machine on which everything starts at once."""

OOM_SCORE = 300
"""Users' processes before the platform's, when the whole machine runs out (proc(5): -1000 to 1000)."""


class StartError(TidehubError):
    """The program could not be started; the message says at which step."""


class Gate:
    """A process waiting to become the user's program. Use as a context: leaving without `go` ends it.

    Without `order.gate`, the program gets the pipes of the gate itself; see `sandbox.START`.
    """

    def __init__(self, order: Order, *, log: int) -> None:
        self._report, report_there = os.pipe()
        go_there, self._go = os.pipe()
        self._open = False
        order = replace(order, oom_score_adj=OOM_SCORE)
        if not order.gate:
            order = replace(order, descriptors={SAY: report_there, WAIT: go_there, **order.descriptors})
        order_there = packed(order)
        try:
            self.process = subprocess.Popen(
                launcher_command(order_there, report=report_there, go=go_there),
                env=interpreter_environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(order_there, report_there, go_there, *order.descriptors.values()),
                start_new_session=True,
            )
        except OSError as error:
            self._close()
            raise StartError(f"no process can be made: {error.strerror}") from error
        finally:
            for fd in {order_there, report_there, go_there}:
                os.close(fd)

    def ready(self) -> None:
        """Wait until the process stands at the gate; raises `StartError` with what it says otherwise."""
        self._listen(until=b"ready\n")

    def go(self) -> None:
        """Let it become the program; returns when it has, raises `StartError` if it cannot."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._go, b"g\n")
        self._listen(until=None)
        self._open = True

    def _listen(self, until: bytes | None) -> None:
        poll = select.poll()
        poll.register(self._report, select.POLLIN | select.POLLHUP)
        deadline = time.monotonic() + START_SECONDS
        said = b""
        while until is None or not said.endswith(until):
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise StartError(f"the process did not start within {START_SECONDS:g} seconds")
            piece = os.read(self._report, 4096)
            if not piece:
                break
            said += piece
        if said == (until or b""):
            return
        message = said.removeprefix(until or b"").decode(errors="replace").strip()
        raise StartError(message or "the process ended before it became the program; its log may say why")

    def __enter__(self) -> Gate:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if not self._open:
            self.process.kill()
            self.process.wait()

    def _close(self) -> None:
        for fd in (self._report, self._go):
            with contextlib.suppress(OSError):
                os.close(fd)
