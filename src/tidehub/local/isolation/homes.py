"""Directories that belong to people: homes, run directories, private temporary directories.

The superuser makes them inside directories that people cannot write, looks before using them, and follows no
symbolic link: every step works on an open descriptor, so nothing can be exchanged between the look and the use.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from tidehub.errors import Place, TidehubError

PRIVATE = 0o700
SOCKETS_FOR_GROUP = 0o2710
"""The owner alone may list and write; the group (the proxy) may pass; sockets made inside get that group."""


def make_home(homes: Path, directory: str, *, uid: int, gid: int) -> Path:
    """`homes/directory`, 0700 and owned by `uid`; made whole or not at all.

    Raises `TidehubError` if something else stands there: a link, a file, a directory of another owner.
    """
    home = homes / directory
    with _opened(homes) as parent:
        try:
            found = os.stat(directory, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            _place_new(parent, directory, uid=uid, gid=gid, mode=PRIVATE)
            return home
    _refuse_strange(home, found, uid, "home directory")
    return home


def make_shared(path: Path) -> Path:
    """A directory of ours that others may pass through but not list (0711), parents included."""
    path.mkdir(parents=True, exist_ok=True)
    if stat.S_IMODE(path.stat().st_mode) != 0o711:
        path.chmod(0o711)
    return path


def make_run_directory(people: Path, number: int, *, uid: int, gid: int, mode: int) -> Path:
    """`people/number` for sockets, with owner, group and mode put right if the person changed them."""
    path = people / str(number)
    with _opened(people) as parent:
        try:
            found = os.stat(path.name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            _place_new(parent, path.name, uid=uid, gid=gid, mode=mode)
            return path
        _refuse_strange(path, found, uid, "run directory")
        if found.st_gid != gid or stat.S_IMODE(found.st_mode) != mode:
            fd = os.open(
                path.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent
            )
            try:
                _own(fd, uid=uid, gid=gid, mode=mode)
            finally:
                os.close(fd)
    return path


def make_temporary(root: Path, directory: str, *, fresh: bool) -> Path:
    """A person's own /tmp for a sandbox, on disk (memory is limited, spilled data is large); emptied if `fresh`."""
    root.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
    path = root / directory
    if fresh and path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=PRIVATE, exist_ok=True)
    _refuse_strange(path, path.lstat(), os.getuid(), "temporary directory")
    return path


def make_own_temporary(root: Path, directory: str, *, uid: int, gid: int) -> Path:
    """A user's own /tmp and /var/tmp in root mode: `root/directory`, where `root` lets nobody but us through.

    On disk, not in memory: memory is limited, and spilled data is large.
    """
    root.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
    path = root / directory
    with _opened(root) as parent:
        os.fchmod(parent, PRIVATE)
        try:
            found = os.stat(directory, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            _place_new(parent, directory, uid=uid, gid=gid, mode=PRIVATE)
            return path
    _refuse_strange(path, found, uid, "temporary directory")
    return path


def open_log(path: Path) -> int:
    """A descriptor to append to `path` (0600, ours); raises `TidehubError` if something else stands there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        raise TidehubError(f"cannot open the log: {error.strerror}", where=Place(str(path))) from error
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
        os.close(fd)
        raise TidehubError(
            "this is not a log file of ours",
            where=Place(str(path)),
            expected=f"a regular file of uid {os.geteuid()} with one name",
            fix="move it away",
        )
    os.fchmod(fd, 0o600)
    os.set_blocking(fd, True)
    return fd


def _place_new(parent: int, name: str, *, uid: int, gid: int, mode: int) -> None:
    """A new directory with its final owner before it gets its final name."""
    draft = f".new-{secrets.token_hex(6)}"
    os.mkdir(draft, PRIVATE, dir_fd=parent)
    fd = os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        _own(fd, uid=uid, gid=gid, mode=mode)
        os.rename(draft, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        with contextlib.suppress(OSError):
            os.rmdir(draft, dir_fd=parent)
        raise
    finally:
        os.close(fd)


def _own(fd: int, *, uid: int, gid: int, mode: int) -> None:
    found = os.fstat(fd)
    if (found.st_uid, found.st_gid) != (uid, gid):
        os.fchown(fd, uid, gid)
    # After the change of owner, which clears the set-group-id bit.
    os.fchmod(fd, mode)


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[int]:
    """The directory's descriptor, locked against the other process of the platform that makes directories here."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise TidehubError(
            f"cannot use this directory: {error.strerror}", where=Place(str(directory))
        ) from error
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    except OSError as error:
        raise TidehubError(f"cannot make a directory here: {error}", where=Place(str(directory))) from error
    finally:
        os.close(fd)


def _refuse_strange(path: Path, found: os.stat_result, uid: int, what: str) -> None:
    if stat.S_ISLNK(found.st_mode):
        problem = "is a symbolic link"
    elif not stat.S_ISDIR(found.st_mode):
        problem = "is not a directory"
    elif found.st_uid != uid:
        problem = f"belongs to uid {found.st_uid}"
    else:
        return
    raise TidehubError(
        f"the {what} {problem}",
        where=Place(str(path)),
        expected=f"a directory owned by uid {uid}",
        fix="if it is this person's, give it to them (chown -R); if not, move it away;"
        " if the table of people was lost, restore it from a backup",
    )
