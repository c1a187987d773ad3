"""Children that are not ours by birth: people's processes whose parent (hub, gateway) was killed."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Mapping
from subprocess import Popen

_SET_CHILD_SUBREAPER = 36
"""linux/prctl.h"""


def become_subreaper() -> bool:
    """Have orphaned descendants handed to this process; false where the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0) == 0)


def reap(own: Mapping[int, Popen[bytes]]) -> list[int]:
    """Collect every ended child; those of `own` keep their exit status. Returns the orphans' pids.

    Without it an ended notebook server stays a zombie, and hub and gateway would take it for alive.
    """
    reaped: list[int] = []
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return reaped
        if ended is None:
            return reaped
        if (process := own.get(ended.si_pid)) is not None:
            process.poll()
        elif _is_of_our_session(ended.si_pid):
            # Started by a library in this process, which waits for it itself.
            return reaped
        else:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(ended.si_pid, os.WNOHANG)
            reaped.append(ended.si_pid)


def _is_of_our_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == os.getsid(0)
    except ProcessLookupError:
        return False
