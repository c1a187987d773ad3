"""Memory that a user's processes leave behind where they have no namespaces of their own.

Files in /dev/shm and System V segments live without a process, and the kernel charges them to a control group that
may be gone. Called with a user's last process only: nothing of theirs is in use any more.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
from collections.abc import Callable
from pathlib import Path

_IPC_RMID = 0
"""linux/ipc.h"""
MOST_FILES = 100_000
"""A user chooses how many there are; what is beyond this waits for the next time."""


def clear_shared_memory(uid: int, shared: Path = Path("/dev/shm"), queues: Path = Path("/dev/mqueue")) -> int:
    """Remove what `uid` owns in shared memory and message queues; how many objects were removed. Root only."""
    if uid <= 0:
        raise ValueError("only a user's own memory is ever cleared")
    return _clear_segments(uid) + sum(_clear_files(place, uid) for place in (shared, queues))


def _clear_segments(uid: int) -> int:
    """Segments with processes attached go when those detach (shmctl(2)). Columns as in proc_sysvipc(5)."""
    libc = ctypes.CDLL(None, use_errno=True)
    removed = 0
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
        for line in lines[1 : MOST_FILES + 1]:
            row = dict(zip(columns, line.split(), strict=False))
            if row.get("uid") == str(uid):
                removed += control(int(row[f"{kind}id"])) == 0
    return removed


def _clear_files(place: Path, uid: int) -> int:
    """Files and whole directories of `uid` directly in `place`, a directory in which everybody may write (sticky).

    Works on descriptors and follows no link. Depth is bounded too: directories below are emptied level by level.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    removed = 0
    try:
        top = os.open(place, flags)
    except OSError:
        return 0
    try:
        while removed < MOST_FILES:
            gone = _clear_level(top, uid, flags)
            if not gone:
                break
            removed += gone
    finally:
        os.close(top)
    return removed


def _clear_level(top: int, uid: int, flags: int) -> int:
    """One pass: files go, and of each directory the deepest first-found chain is brought up and removed."""
    gone = 0
    for name in os.listdir(top)[:MOST_FILES]:
        with contextlib.suppress(OSError):
            found = os.stat(name, dir_fd=top, follow_symlinks=False)
            if found.st_uid != uid:
                continue
            if not stat.S_ISDIR(found.st_mode):
                os.unlink(name, dir_fd=top)
                gone += 1
                continue
            inner = os.open(name, flags, dir_fd=top)
            try:
                if os.fstat(inner).st_uid != uid:
                    continue  # the name was given to somebody else's meanwhile
                gone += _raise_content(inner, top)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)
            gone += 1
    return gone


def _raise_content(inner: int, top: int) -> int:
    """Files in `inner` go; its directories move up to `top` under new names, so no recursion is ever needed."""
    gone = 0
    for name in os.listdir(inner)[:MOST_FILES]:
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(os.stat(name, dir_fd=inner, follow_symlinks=False).st_mode):
                os.rename(name, f".left-{os.urandom(8).hex()}", src_dir_fd=inner, dst_dir_fd=top)
            else:
                os.unlink(name, dir_fd=inner)
            gone += 1
    return gone
