"""Memory that a user's processes leave behind where they have no namespaces of their own.

Files in /dev/shm and System V segments live without a process, and the kernel charges them to a control group that
may be gone. Called with a user's last process only: nothing of theirs is in use any more.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tidehub.system.processes import interpreter_environment
from tidehub.system.sweeper import ROUND
from tidehub.system.trash import SWEEPER

_IPC_RMID = 0
"""linux/ipc.h"""
_MOST = 100_000
"""A user chooses how many segments there are; what is beyond this waits for the next time."""


def clear_shared_memory(
    uid: int, shared: Path = Path("/dev/shm"), queues: Path = Path("/dev/mqueue")
) -> None:
    """Remove what `uid` owns in shared memory and message queues. Root only."""
    if uid <= 0:
        raise ValueError("only a user's own memory is ever cleared")
    _clear_segments(uid)
    for place in (shared, queues):
        _clear_files(place, uid)


def _clear_segments(uid: int) -> None:
    """Segments with processes attached go when those detach (shmctl(2)). Columns as in proc_sysvipc(5)."""
    libc = ctypes.CDLL(None, use_errno=True)
    controls: tuple[tuple[str, Callable[[int], int]], ...] = (
        ("shm", lambda number: libc.shmctl(number, _IPC_RMID, None)),
        ("msg", lambda number: libc.msgctl(number, _IPC_RMID, None)),
        ("sem", lambda number: libc.semctl(number, 0, _IPC_RMID)),
    )
    for kind, control in controls:
        lines: list[str] = []
        with contextlib.suppress(OSError):
            lines = Path("/proc/sysvipc", kind).read_text(encoding="ascii").splitlines()
        if not lines:
            continue
        columns = lines[0].split()
        for line in lines[1 : _MOST + 1]:
            row = dict(zip(columns, line.split(), strict=False))
            if row.get("uid") == str(uid):
                control(int(row[f"{kind}id"]))


def _clear_files(place: Path, uid: int) -> None:
    """Files and whole directories of `uid` in `place`, where everybody may write: by a process with that user's rights,
    so the kernel keeps it from all others'.
    """
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            subprocess.run(
                [sys.executable, "-I", "-S", SWEEPER, str(descriptor), str(uid)],
                env=interpreter_environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(descriptor,),
                timeout=2 * ROUND,
            )
        finally:
            os.close(descriptor)
