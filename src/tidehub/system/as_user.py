"""What the background programs of this layer share: a piece of work with the rights of a user, in a process that this
user can neither stop nor kill nor trace; and stepping back behind all others.

Only the effective uid of such a process is the user's; the real and the saved one are `SHIELD`, a uid of the platform.
Signals go by the real and the saved uid of who receives them (kill(2)), and tracing by all three (ptrace(2)). It does
not count against the user's processes either, and has nothing open but what it is given. Standard library alone: what
was not loaded before is not loaded with the rights of a user.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
from collections.abc import Callable, Iterable

SHIELD = 69_998
"""As `local.isolation.users.services_uid`: who has this uid may stop the work."""
LONGEST = 4096
"""Bytes that the work may answer, which fit into a pipe (pipe(7), PIPE_BUF)."""

_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "ppc64le": 273, "s390x": 282}
"""The number of ioprio_set(2), for which the C library has no function (asm/unistd.h of each architecture)."""
_IOPRIO_IDLE = 3 << 13
"""linux/ioprio.h: IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0)."""
_SET_KEEPCAPS = 8
_CAPABILITY_VERSION_3 = 0x20080522
_READ_SEARCH, _PTRACE = 1 << 2, 1 << 19
"""linux/prctl.h and linux/capability.h: CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE as bits of a set."""


def run_as(
    uid: int, work: Callable[[], bytes], seconds: float, *, keep: Iterable[int] = (), look: bool = False
) -> bytes:
    """What `work` returns in a process with the rights of `uid`; nothing if it failed, or was killed after `seconds`.

    It has the descriptors 0 to 2 and `keep`, and with `look`, if we are root, the right to read every directory and to
    see what every process has open (CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE). For programs with one thread.
    """
    listening, saying = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _close_all_but(saying, *keep)
            _become(uid, look=look)
            os.write(saying, work()[:LONGEST])
        finally:
            os._exit(0)
    os.close(saying)
    try:
        poll = select.poll()
        poll.register(listening, select.POLLIN | select.POLLHUP)
        if not poll.poll(seconds * 1000):
            os.kill(child, signal.SIGKILL)
            return b""
        return os.read(listening, LONGEST)
    finally:
        os.close(listening)
        os.waitpid(child, 0)


def step_back() -> None:
    """Nobody who works shall notice: the lowest priorities for processor and disk."""
    with contextlib.suppress(OSError):
        os.nice(19)
    number = _IOPRIO_SET.get(os.uname().machine)
    if number is not None:
        ctypes.CDLL(None).syscall(number, 1, 0, _IOPRIO_IDLE)


def _become(uid: int, *, look: bool) -> None:
    if uid == os.geteuid():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if look:
        libc.prctl(_SET_KEEPCAPS, ctypes.c_ulong(1), *(ctypes.c_ulong(0),) * 3)
    os.setgroups([])
    os.setresgid(SHIELD, uid, SHIELD)
    os.setresuid(SHIELD, uid, SHIELD)
    if os.getresuid() != (SHIELD, uid, SHIELD):
        raise PermissionError(1, "not the user")
    if look:
        _keep_looking(libc)


def _keep_looking(libc: ctypes.CDLL) -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # Effective, permitted, inheritable; twice, for 64 capabilities. A container may lack one: what is there is kept.
    for kept in (_READ_SEARCH | _PTRACE, _READ_SEARCH, 0):
        if libc.capset(header, (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)) == 0:
            return
    raise PermissionError(1, "root's rights were not given up")


def _close_all_but(*kept: int) -> None:
    """And 0 to 2. There are only a few."""
    for number in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 - names, not paths
        if number > 2 and number not in kept:
            with contextlib.suppress(OSError):  # the one of the listing
                os.close(number)
