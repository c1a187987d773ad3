"""The edge to the program: one run with a deadline, which ends whole, whatever happens to us meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

GRACE = 12.0
"""Seconds that a program has to write down how far it came, after it was asked to end."""
_SLICE = 0.5
"""Seconds between looks at whether it has ended while its pipes are still open."""


_PR_SET_PDEATHSIG = 1
# Looked up here: between fork and exec nothing may be imported. Only Linux has it.
_PRCTL = getattr(ctypes.CDLL(None), "prctl", None)


@dataclass(frozen=True)
class Ended:
    """How a run ended by itself. What it printed may hold secrets, so it is left out of the repr."""

    code: int
    output: str
    complaint: str

    def __repr__(self) -> str:
        return f"Ended(code={self.code})"


class TooSlow(Exception):
    """The deadline came first. `complaint` is what the program had printed to its standard error by then."""

    def __init__(self, complaint: str) -> None:
        self.complaint = complaint
        super().__init__("too slow")


class Stopped(Exception):
    """The operator pressed Ctrl-C, and the program has ended. `graceful`: it ended by itself within its grace."""

    def __init__(self, graceful: bool) -> None:
        self.graceful = graceful
        super().__init__("stopped")


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    deadline: float,
    grace: float | None = None,
    pass_fds: Sequence[int] = (),
    started: Callable[[subprocess.Popen[bytes]], None] = lambda child: None,
) -> Ended:
    """Run a program without a terminal for at most `deadline` seconds. `started` is told of the process.

    It has a session of its own: Ctrl-C reaches us alone, and we pass it on once. A program that does not end within
    `grace` seconds (`GRACE` without) is killed with all its children, and a second Ctrl-C does that at once. Raises
    `TooSlow`, `Stopped`, and `OSError` where it cannot be started.
    """
    ours = os.getpid()
    grace = GRACE if grace is None else grace
    child = subprocess.Popen(
        list(argv),
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        pass_fds=tuple(pass_fds),
        # Were we killed, it would go on alone, while the next tidehub takes it for dead.
        preexec_fn=(lambda: _die_with(ours)) if _PRCTL else None,
    )
    try:
        started(child)
        output, complaint = _communicate(child, deadline)
    except subprocess.TimeoutExpired:
        _, said = _end(child, signal.SIGTERM, grace)
        raise TooSlow(said) from None
    except KeyboardInterrupt:
        graceful, _ = _end(child, signal.SIGINT, grace)
        raise Stopped(graceful) from None
    except BaseException:
        _kill(child)
        raise
    finally:
        # What it started (credential plugins) does not outlive it.
        _kill_group(child.pid)
    return Ended(child.returncode, output.decode(errors="replace"), complaint.decode(errors="replace"))


def stop(child: subprocess.Popen[bytes]) -> None:
    """Asks a process that runs in another thread to write down how far it came, and to end."""
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(signal.SIGINT)


def _die_with(parent: int) -> None:
    assert _PRCTL is not None
    _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _communicate(child: subprocess.Popen[bytes], seconds: float) -> tuple[bytes, bytes]:
    """What it printed until its end. Raises `TimeoutExpired`.

    Its end counts, not that of its pipes: a credential plugin may leave a process behind that holds them.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            return child.communicate(timeout=max(0.0, min(_SLICE, end - time.monotonic())))
        except subprocess.TimeoutExpired:
            if child.poll() is not None:
                _kill_group(child.pid)
                return child.communicate(timeout=_SLICE)
            if time.monotonic() >= end:
                raise


def _end(child: subprocess.Popen[bytes], ask: signal.Signals, grace: float) -> tuple[bool, str]:
    try:
        child.send_signal(ask)
        _, said = _communicate(child, grace)
        return True, said.decode(errors="replace")
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        return False, _kill(child)


def _kill(child: subprocess.Popen[bytes]) -> str:
    _kill_group(child.pid)
    try:
        _, said = child.communicate(timeout=5)
    except (subprocess.TimeoutExpired, KeyboardInterrupt, ValueError):
        # A grandchild in a session of its own holds the pipes: they are left to it.
        for stream in (child.stdout, child.stderr):
            if stream:
                stream.close()
        child.wait()
        return ""
    return said.decode(errors="replace")


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
