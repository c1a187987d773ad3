"""One `tidehub up` for one state: a lock on `private/lock` that ends with its process."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.system.files import os_fault


class Locked(TidehubError):
    """Another process holds the state. `pid` is its number, or None when it could not be read."""

    def __init__(self, path: Path, pid: int | None) -> None:
        self.pid = pid
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            f"{path.parent.parent} is in use: `tidehub up` runs there already ({holder})",
            expected="one `tidehub up` for one state directory",
            fix=f"see it with `tidehub status --state {path.parent.parent}`, stop it with `tidehub down`, "
            "or choose another directory with --state",
        )


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock for as long as the block runs. Raises `Locked`, `TidehubError`."""
    descriptor = _open(path)
    try:
        _take(descriptor, path)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        # The file stays: removing it would let two processes lock two files of one name.
        os.close(descriptor)


def holder(path: Path) -> int | None:
    """The pid that holds the lock now; None when nobody does; 0 when it could not be read."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise os_fault(error, path, "open") from error
    try:
        _take(descriptor, path)
    except Locked as error:
        return error.pid or 0
    finally:
        os.close(descriptor)
    return None


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise os_fault(error, path, "open") from error


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise os_fault(error, path, "lock") from error
        text = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        raise Locked(path, int(text) if text.isascii() and text.isdigit() else None) from error
