"""Directories that are handed to other users, made inside directories that only we can write.

A user's process may exchange any name in a directory that its uid can write, at any moment. So nothing is ever made,
changed or looked at by path below such a directory: what another uid shall own is built as a draft that only we can
enter, handed over from the inside out, and renamed into place. Afterwards the platform does not touch what is in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tidehub.errors import Place, TidehubError

PRIVATE = 0o700
DRAFT = ".new-"
"""Drafts' names begin with this. One that a crash left belongs to nobody who waits for it."""

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class File:
    """A file to be made: 0600, of its directory's owner."""

    content: bytes


@dataclass(frozen=True)
class Directory:
    """A directory to be made, with all that is in it at the beginning. Names are single path components."""

    uid: int
    gid: int
    mode: int = PRIVATE
    holds: Mapping[str, File | Directory] = field(default_factory=dict)


@contextlib.contextmanager
def opened(directory: Path) -> Iterator[int]:
    """The descriptor of a directory of ours, locked against other processes that make or move things in it.

    Raises `TidehubError` if it cannot be used, or if another uid could exchange what is made in it; an `OSError`
    inside the block becomes a `TidehubError` too.
    """
    try:
        descriptor = os.open(directory, _OPEN)
    except OSError as error:
        raise TidehubError(
            f"cannot use this directory: {error.strerror}", where=Place(str(directory))
        ) from error
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid() or found.st_mode & _WRITABLE_BY_OTHERS:
            raise TidehubError(
                f"this directory (uid {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}) can be changed by others",
                where=Place(str(directory)),
                expected=f"a directory of uid {os.geteuid()} that nobody else may write",
                fix=f"stop the platform, then: chown {os.geteuid()} {directory}; chmod go-w {directory}",
            )
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    except OSError as error:
        raise TidehubError(f"cannot make a directory here: {error}", where=Place(str(directory))) from error
    finally:
        os.close(descriptor)


def look(parent: int, name: str) -> os.stat_result | None:
    """What stands under `name` in the open directory `parent`, itself and not what it links to; None for nothing."""
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def place_new(parent: int, name: str, wanted: Directory) -> None:
    """Make `wanted` whole, then give it its name in the open directory `parent`. Nothing may stand there.

    `parent` must be from `opened`. Raises `OSError`; then nothing of it is left.
    """
    draft = f"{DRAFT}{secrets.token_hex(6)}"
    os.mkdir(draft, PRIVATE, dir_fd=parent)
    made = os.open(draft, _OPEN, dir_fd=parent)
    try:
        os.fchmod(made, PRIVATE)
        _fill(made, wanted)
        # Last: from here on the directory is its owner's, and what is in it is out of our hands.
        own(made, uid=wanted.uid, gid=wanted.gid, mode=wanted.mode)
        os.rename(draft, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        _discard(parent, draft, made, wanted)
        raise
    finally:
        os.close(made)


def own(descriptor: int, *, uid: int, gid: int, mode: int) -> None:
    """Give an open file or directory its owner and mode, each only if it differs."""
    found = os.fstat(descriptor)
    if (found.st_uid, found.st_gid) != (uid, gid):
        os.fchown(descriptor, uid, gid)
    # After the change of owner, which clears the set-group-id bit.
    os.fchmod(descriptor, mode)


def refuse_strange(path: Path, found: os.stat_result, uid: int, what: str, *, fix: str) -> None:
    """Raise `TidehubError` unless `found` is a directory of `uid`; `what` it should have been, in words."""
    if stat.S_ISLNK(found.st_mode):
        problem = "is a symbolic link"
    elif not stat.S_ISDIR(found.st_mode):
        problem = "is not a directory"
    elif found.st_uid != uid:
        problem = f"belongs to uid {found.st_uid}"
    else:
        return
    raise TidehubError(
        f"the {what} {problem}", where=Place(str(path)), expected=f"a directory owned by uid {uid}", fix=fix
    )


def _fill(descriptor: int, wanted: Directory) -> None:
    for name, content in wanted.holds.items():
        if isinstance(content, File):
            _write(descriptor, name, content, uid=wanted.uid, gid=wanted.gid)
            continue
        os.mkdir(name, PRIVATE, dir_fd=descriptor)
        inner = os.open(name, _OPEN, dir_fd=descriptor)
        try:
            _fill(inner, content)
            own(inner, uid=content.uid, gid=content.gid, mode=content.mode)
        finally:
            os.close(inner)


def _write(directory: int, name: str, file: File, *, uid: int, gid: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, 0o600, dir_fd=directory), "wb") as stream:
        own(stream.fileno(), uid=uid, gid=gid, mode=0o600)
        stream.write(file.content)


def _discard(parent: int, draft: str, made: int, wanted: Directory) -> None:
    """Remove a draft that failed: what we put in it ourselves, while nobody else can enter it."""
    with contextlib.suppress(OSError):
        own(made, uid=os.geteuid(), gid=os.getegid(), mode=PRIVATE)
        _empty(made, wanted)
        os.rmdir(draft, dir_fd=parent)


def _empty(descriptor: int, wanted: Directory) -> None:
    for name, content in wanted.holds.items():
        with contextlib.suppress(FileNotFoundError):
            if isinstance(content, File):
                os.unlink(name, dir_fd=descriptor)
                continue
            inner = os.open(name, _OPEN, dir_fd=descriptor)
            try:
                _empty(inner, content)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=descriptor)
