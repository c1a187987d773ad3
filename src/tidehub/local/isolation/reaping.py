"""For the supervisor: adopt orphans, collect the ended ones, and end with the parent.

Sources: prctl(2), PR_SET_CHILD_SUBREAPER and PR_SET_PDEATHSIG; wait(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Collection

from .process import children_of

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

# Loaded here, not in the child after fork: loading takes locks that another thread may hold at that moment.
_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """From now on, orphans below this process become its children instead of PID 1's; raises `OSError`.

    Containers often run a PID 1 that never collects anybody, and a zombie looks like a process that hangs.
    """
    if _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def reap_orphans(keep: Collection[int] = ()) -> list[int]:
    """Collect ended children, except those in `keep` (somebody else waits for their exit code); their pids."""
    gone = []
    for stat in children_of(os.getpid()):
        if stat.ended and stat.pid not in keep:
            with contextlib.suppress(ChildProcessError):
                pid, _ = os.waitpid(stat.pid, os.WNOHANG)
                if pid:
                    gone.append(pid)
    return gone


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """A `preexec_fn` after which the child gets `number` when the thread that started it ends.

    Call it in the parent. Only for a parent that starts its children from its main thread and has no others: the
    kernel watches the thread, and Python code after fork is safe in a process of one thread.
    """
    parent = os.getpid()
    prctl, getppid, leave, value = _libc.prctl, os.getppid, os._exit, int(number)

    def arrange() -> None:
        prctl(PR_SET_PDEATHSIG, value, 0, 0, 0)
        if getppid() != parent:  # it ended before we asked
            leave(128 + value)

    return arrange
