"""Files that hold secrets: read only when no other user can, replaced whole, one writer at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tidehub.errors import Place, TidehubError, UsageError
from tidehub.system import files

LARGEST = 256 * 2**10
"""Bytes. A secrets file has a few hundred; anything larger is another file given by mistake."""
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True)
class Content:
    """What a file holds. `modified` is in seconds since the epoch. `data` is left out of the repr."""

    data: bytes
    modified: float
    uid: int
    gid: int

    def __repr__(self) -> str:
        return f"Content({len(self.data)} bytes)"


def read(path: Path, what: str, *, open_to_others: bool = False, largest: int = LARGEST) -> Content | None:
    """What a file holds, None when there is no such file. `what` names it in messages: "the secrets file".

    A symbolic link is followed; what counts is the file behind it. Raises `UsageError` for a file that others may
    read (unless `open_to_others`), that is not a regular file, or too large.
    """
    where = Place(str(path))
    try:
        # Not blocking: opening a named pipe by mistake must not hang.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if path.is_symlink():
            raise UsageError(
                f"{what} is a symbolic link to a file that does not exist", where=where, fix="remove the link"
            ) from None
        return None
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{what} cannot be read ({getattr(error, 'strerror', None) or 'not a file name'})",
            where=where,
            fix="check its owner and mode, and the directories above it",
        ) from None
    try:
        found = os.fstat(handle)
        _check(found, path, what, open_to_others)
        data = _bytes_of(handle, largest + 1)
    except OSError as error:
        raise UsageError(f"{what} cannot be read ({error.strerror})", where=where) from None
    finally:
        os.close(handle)
    if len(data) > largest:
        raise UsageError(
            f"{what} is larger than {largest // 1024} KiB",
            where=where,
            fix="a secrets file has a few lines: is it another file?",
        )
    return Content(data, found.st_mtime, found.st_uid, found.st_gid)


def _check(found: os.stat_result, path: Path, what: str, open_to_others: bool) -> None:
    where = Place(str(path))
    if stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{what} is a directory", where=where, expected="a file")
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{what} is not a regular file", where=where, expected="a file")
    if not open_to_others and found.st_mode & _OTHERS:
        raise UsageError(
            f"{what} can be read or changed by others (mode {stat.S_IMODE(found.st_mode):04o})",
            where=where,
            expected="mode 0600",
            fix=f"chmod 600 {path}; and if others were on this machine meanwhile, rotate what it holds",
        )
    if found.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
        raise UsageError(
            f"{what} belongs to uid {found.st_uid}, and you are uid {os.geteuid()}",
            where=where,
            expected="a file of your own",
            fix="copy it, and keep the copy",
        )


def _bytes_of(handle: int, most: int) -> bytes:
    data = b""
    while len(data) < most and (piece := os.read(handle, most - len(data))):
        data += piece
    return data


def replace(
    path: Path, content: str | bytes, *, uid: int | None = None, gid: int | None = None, mode: int = 0o600
) -> None:
    """Replace a file (the one behind a symbolic link) in one step. Raises `TidehubError`.

    As root the new file keeps the owner given; without one it gets its directory's, so that `sudo` leaves no
    file behind that its user cannot read.
    """
    target = path.resolve() if path.is_symlink() else path
    try:
        if os.geteuid() == 0:
            above = target.parent.stat()
            uid, gid = above.st_uid if uid is None else uid, above.st_gid if gid is None else gid
        else:
            uid = gid = None
        files.replace(target, content, mode=mode, uid=uid, gid=gid)
    except OSError as error:
        raise _fault(error, target, "write") from None


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory, so that of two processes one makes a secret and the other finds it.

    Raises `TidehubError`.
    """
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _fault(error, directory, "open") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            # NFS locks only files that are open for writing (flock(2)): there a small file stays behind.
            if error.errno not in (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL):
                raise _fault(error, directory, "lock") from None
            os.close(handle)
            handle = _lock_file(directory / ".tidehub-secrets.lock")
        yield
    finally:
        os.close(handle)


def _lock_file(path: Path) -> int:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _fault(error, path, "open") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        os.close(handle)
        raise _fault(error, path, "lock") from None
    return handle


def _fault(error: OSError, path: Path, doing: str) -> TidehubError:
    remedies = {
        errno.ENOSPC: "the disk is full: make room; nothing was half-written",
        errno.EDQUOT: "your disk quota is used up: make room; nothing was half-written",
        errno.EROFS: "the file system is read-only: keep the site and its secrets elsewhere, or give the secrets "
        "by another source",
        errno.ENOENT: "check the directory of the site file",
    }
    fix = remedies.get(
        error.errno or 0, "check who owns the directory, or give the secrets by another source"
    )
    return TidehubError(f"cannot {doing} {path}: {error.strerror}", fix=fix)
