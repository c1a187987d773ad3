"""Start a program held at a gate: it exists and is known, but does nothing until we say go.

Between the two, the caller writes the process down. A platform that dies in between leaves nothing running: the
waiting process reads the end of the pipe and goes away.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from tidehub.errors import TidehubError

LAUNCHER = Path(__file__).with_name("launcher.py")

START_SECONDS = 60.0
"""For an interpreter to start on a machine on which everything starts at once."""

OOM_SCORE = 300
"""People's processes before the platform's, when the whole machine runs out (proc(5): -1000 to 1000)."""


@dataclass(frozen=True)
class Order:
    """What the launcher does; see `launcher.py`."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    groups: Sequence[str] = ()
    rlimits: Mapping[str, int] = field(default_factory=dict)
    uid: int | None = None
    gid: int | None = None
    gate: bool = True
    """Whether the launcher waits for go. A sandbox waits itself, inside; see `bubblewrap.py`."""
    descriptors: Mapping[int, int] = field(default_factory=dict)
    """Number in the program -> descriptor of ours."""

    def packed(self) -> bytes:
        """JSON for the launcher; undecodable bytes in names survive as lone surrogates."""
        plain: dict[str, Any] = {
            "argv": list(self.argv),
            "env": dict(self.env),
            "cwd": self.cwd,
            "groups": list(self.groups),
            "rlimits": dict(self.rlimits),
            "uid": self.uid,
            "gid": self.gid,
            "gate": self.gate,
            "descriptors": {str(want): have for want, have in self.descriptors.items()},
            "oom_score_adj": OOM_SCORE,
        }
        return json.dumps(plain).encode()


class StartError(TidehubError):
    """The program could not be started; the message says at which step."""


class Gate:
    """A process waiting to become the person's program. Use as a context: leaving without `go` ends it."""

    def __init__(self, order: Order, *, log: int, report: tuple[int, int], go: tuple[int, int]) -> None:
        self._report, report_there = report
        go_there, self._go = go
        self._said = b""
        self._open = False
        packed = os.memfd_create("order", os.MFD_CLOEXEC)
        try:
            _write_all(packed, order.packed())
            os.lseek(packed, 0, os.SEEK_SET)
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LAUNCHER), str(packed), str(report_there), str(go_there)],
                env={k: os.environ[k] for k in ("LD_LIBRARY_PATH",) if k in os.environ},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(packed, report_there, go_there, *order.descriptors.values()),
                start_new_session=True,
            )
        except OSError as error:
            self._close()
            raise StartError(f"no process can be made: {error.strerror}") from error
        finally:
            for fd in {packed, report_there, go_there}:
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


def open_gate(order: Order, *, log: int) -> Gate:
    """Start the launcher with `order`; without `order.gate`, the program gets the pipes as 3 (say) and 4 (wait)."""
    report = os.pipe()
    go = os.pipe()
    if not order.gate:
        order = replace(order, descriptors={3: report[1], 4: go[0], **order.descriptors})
    return Gate(order, log=log, report=report, go=go)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
