"""One `tidehub up` for one state: a lock on `private/lock` that ends with its process."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.local.places import command
from tidehub.system.files import os_fault

_LOCK = struct.Struct("@hhqqi4x")
"""`struct flock` of fcntl(2) on 64-bit Linux, for locks of the open file description: type, whence, start, length
(0: all), pid (always 0)."""


class Locked(TidehubError):
    """Another process holds the state. `pid` is its number, or None when it could not be read."""

    def __init__(self, path: Path, pid: int | None) -> None:
        self.pid = pid
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            f"{path.parent.parent} is in use: `tidehub up` runs there already ({holder})",
            expected="one `tidehub up` for one state directory",
            fix=f"see it with: {command(path.parent.parent, 'status')}; stop it with: "
            f"{command(path.parent.parent, 'down')}; or choose another directory with --state",
        )


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock for as long as the block runs. Raises `Locked`, `TidehubError`."""
    descriptor = _open(path)
    try:
        _take(descriptor, path)
        # A full disk has no room for the pid either; then who holds the lock has no number, and is held all the same.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        # The file stays: removing it would let two processes lock two files of one name.
        os.close(descriptor)


def holder(path: Path) -> int | None:
    """The pid that holds the lock now; None when nobody does; 0 when it could not be read.

    Only asks: a lock taken for a moment to find out would refuse an `up` that comes at that moment.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise os_fault(error, path, "open") from error
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        return None if _LOCK.unpack(answer)[0] == fcntl.F_UNLCK else _written(descriptor) or 0
    except OSError as error:
        raise os_fault(error, path, "ask for the lock on") from error
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise os_fault(error, path, "open") from error


def _take(descriptor: int, path: Path) -> None:
    try:
        # The first is what earlier versions of tidehub take and ask for.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise os_fault(error, path, "lock") from error
        raise Locked(path, _written(descriptor)) from error


def _written(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
    return int(text) if text.isascii() and text.isdigit() else _known_to_the_kernel(descriptor)


def _known_to_the_kernel(descriptor: int) -> int | None:
    """Who took the flock of this file by proc_locks(5), where a full disk left no room for the number in it."""
    found = os.fstat(descriptor)
    file = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if words[1] == "FLOCK" and words[5] == file:
                return int(words[4]) or None
    return None
