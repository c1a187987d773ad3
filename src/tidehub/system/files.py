"""Files and directories of the state: written whole or not at all, private, with faults in words."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

from tidehub.errors import TidehubError

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700
OPEN_DIRECTORY = 0o755
PASSABLE_DIRECTORY = 0o711
"""Others may walk through to what they know by name, and see nothing listed."""

_SQLITE_FULL = 13
_MODE_BITS = 0o7777


_REMEDIES = {
    errno.EACCES: "give this user access to it, or choose another directory with --state",
    errno.EPERM: "give this user access to it, or choose another directory with --state",
    errno.EROFS: "the file system is read-only: remount it, or choose another directory with --state",
    errno.ENOSPC: "the disk is full: make room, then start again; nothing was half-written",
    errno.EDQUOT: "your disk quota is used up: make room, then start again; nothing was half-written",
    errno.ENOTDIR: "one part of this path is a file: move it, or choose another directory with --state",
    errno.ENAMETOOLONG: "choose a shorter directory with --state",
    errno.EIO: "the disk reports an error: look at the kernel's log",
}


def remedy(number: int | None) -> str | None:
    """What to do about this errno(3) on a file of ours."""
    return _REMEDIES.get(number or 0)


def os_fault(error: OSError, path: Path, doing: str) -> TidehubError:
    """Say in words why `doing` (``"write"``, ``"make"``, ``"read"``) failed on `path`, with the remedy."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return TidehubError(f"cannot {doing} {path}: {reason}", fix=remedy(error.errno))


def is_full_disk(error: BaseException | None) -> bool:
    """Whether `error` came of a full disk or quota: itself, or what it was raised from; sqlite's faults too, also
    where another library wrapped them (`orig`).

    Source: sqlite.org/rescode.html; an error code's low byte is its kind.
    """
    seen: list[BaseException | None] = []
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is None or one in seen:
            continue
        seen.append(one)
        if isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if getattr(one, "sqlite_errorcode", 0) & 0xFF == _SQLITE_FULL:
            return True
        waiting += [one.__cause__, one.__context__, getattr(one, "orig", None)]
    return False


def make_parents(path: Path) -> None:
    """Make the missing parents of `path` with mode 0755, whatever the umask. Raises `OSError`.

    One made under umask 077 would close everything below it to the users that other parts run as; one made under
    umask 0 would be everybody's to change.
    """
    missing = []
    place = path.parent
    while not place.is_dir() and place != place.parent:
        missing.append(place)
        place = place.parent
    for place in reversed(missing):
        with contextlib.suppress(FileExistsError):
            place.mkdir(mode=PRIVATE_DIRECTORY)
            descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                os.fchmod(descriptor, OPEN_DIRECTORY)
            finally:
                os.close(descriptor)


def make_directory(path: Path, mode: int, *, uid: int | None = None, gid: int | None = None) -> Path:
    """Make `path` with exactly `mode`, missing parents open to all; set its owner when asked. Raises `TidehubError`.

    An existing directory gets the mode and owner too, so that a start repairs what somebody changed. A
    symlink in its place is refused: whoever can set it would choose where secrets go.
    """
    try:
        make_parents(path)
        path.mkdir(mode=mode, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileExistsError as error:
        raise TidehubError(
            f"{path} is not a directory",
            expected="a directory, or nothing",
            fix="move it away, or choose --state",
        ) from error
    except OSError as error:
        if error.errno == errno.ELOOP or path.is_symlink():
            raise TidehubError(
                f"{path} is a symbolic link", expected="a directory", fix="remove the link, then start again"
            ) from error
        raise os_fault(error, path, "make") from error
    try:
        found = os.fstat(descriptor)
        wanted = (found.st_uid if uid is None else uid, found.st_gid if gid is None else gid)
        if (found.st_uid, found.st_gid) != wanted:
            os.fchown(descriptor, *wanted)
        if stat.S_IMODE(found.st_mode) != mode:
            os.fchmod(descriptor, mode)
    except OSError as error:
        raise os_fault(error, path, "set mode and owner of") from error
    finally:
        os.close(descriptor)
    return path


def write_private(
    path: Path,
    content: str | bytes,
    *,
    mode: int = PRIVATE_FILE,
    uid: int | None = None,
    gid: int | None = None,
) -> None:
    """Replace `path` by `content` in one step, on disk before it is visible. Raises `TidehubError`.

    `uid` and `gid` hand the file to another user (root only).
    """
    try:
        replace(path, content, mode=mode, uid=uid, gid=gid)
    except OSError as error:
        raise os_fault(error, path, "write") from error


def replace(
    path: Path, content: str | bytes, *, mode: int, uid: int | None = None, gid: int | None = None
) -> None:
    """`write_private` for who has words of their own for the `OSError`."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE_FILE)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            if uid is not None or gid is not None:
                os.fchown(stream.fileno(), -1 if uid is None else uid, -1 if gid is None else gid)
            os.fchmod(stream.fileno(), mode & _MODE_BITS)
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def read_private(path: Path) -> str | None:
    """The text of `path`, or None when there is no such file. Raises `TidehubError` when unreadable."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise TidehubError(
            f"{path} is damaged: not text", fix="restore it from a backup, or move it away and start again"
        ) from error
    except OSError as error:
        raise os_fault(error, path, "read") from error
