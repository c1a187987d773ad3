"""Children that are not ours by birth: users' processes whose parent (hub, gateway) was killed."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Mapping
from subprocess import Popen

from tidehub.system.processes import children_of

_SET_CHILD_SUBREAPER = 36
"""linux/prctl.h"""


def become_subreaper(wanted: bool = True) -> bool:
    """Have orphaned descendants handed to this process, or no longer; false where the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_SET_CHILD_SUBREAPER, ctypes.c_ulong(int(wanted)), 0, 0, 0) == 0)


def reap(own: Mapping[int, Popen[bytes]]) -> list[int]:
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
