"""What the operator hands to parts that run under a uid of their own, and never by a path that such a uid can change.

What a part is told lies in `services/config`, which the operator alone can write; a directory that belongs to a
part's user is that user's matter. The one exception is a change of owner, which is made by descriptor here.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from tidehub.system.files import PRIVATE_DIRECTORY, PRIVATE_FILE, make_directory, os_fault, write_private

READ_BY_PART = 0o640
_OPENED = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_OF_OLDER_VERSIONS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("proxy", "tls"): ("certificate.pem", "key.pem"),
    ("proxy",): ("front.cjs",),
    ("gateway-proxy",): ("proxy.json",),
    ("dashboards",): ("dashboards.json",),
    ("identity",): ("identity.json",),
}
"""Copies of secrets that older versions laid into the directories of parts."""


def write_for_part(path: Path, content: str | bytes, gid: int | None) -> None:
    """Replace `path`, in a directory of the operator's, by a file that the group `gid` may read and nobody else.

    Without `gid` (parts run as the operator) it is the operator's alone. Raises `TidehubError`.
    """
    write_private(path, content, mode=PRIVATE_FILE if gid is None else READ_BY_PART, gid=gid)


def own_directory(path: Path, *, uid: int | None, gid: int | None) -> None:
    """Make `path` (0700), whose parent is the operator's, and give it with the files in it to `uid`.

    Nothing happens to one that is right already. Else root takes the directory first: from then on no other uid can
    change a name in it, not even a process that has it open. Links, directories and files with a second name keep
    their owner. None stands for the operator. Raises `TidehubError`.
    """
    make_directory(path, PRIVATE_DIRECTORY)
    if os.geteuid() != 0:
        return
    wanted = (0, 0) if uid is None or gid is None else (uid, gid)
    directory = os.open(path, _OPENED | os.O_DIRECTORY)
    try:
        names = os.listdir(directory)  # noqa: PTH208  (of a descriptor)
        if _owner(os.fstat(directory)) == wanted and all(_is(directory, name, wanted) for name in names):
            return
        os.fchown(directory, 0, 0)
        os.fchmod(directory, PRIVATE_DIRECTORY)
        for name in os.listdir(directory):  # noqa: PTH208
            _give(directory, name, wanted)
        os.fchown(directory, *wanted)
    except OSError as error:
        raise os_fault(error, path, "set the owner of") from error
    finally:
        os.close(directory)


def remove_older_layout(services: Path) -> None:
    """Remove what older versions wrote for parts below `services`, and directories that are empty then."""
    for parts, names in _OF_OLDER_VERSIONS.items():
        with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
            parent = here = _open_directory(services, None, opened)
            for part in parts:
                parent, here = here, _open_directory(part, here, opened)
            for name in names:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=here)
            if parts[0] != "identity":
                os.rmdir(parts[-1], dir_fd=parent)


def _open_directory(path: Path | str, parent: int | None, opened: contextlib.ExitStack) -> int:
    descriptor = os.open(path, _OPENED | os.O_DIRECTORY, dir_fd=parent)
    opened.callback(os.close, descriptor)
    return descriptor


def _owner(found: os.stat_result) -> tuple[int, int]:
    return found.st_uid, found.st_gid


def _is(directory: int, name: str, wanted: tuple[int, int]) -> bool:
    """Whether an entry has its owner, or went meanwhile."""
    try:
        return _owner(os.stat(name, dir_fd=directory, follow_symlinks=False)) == wanted
    except FileNotFoundError:
        return True


def _give(directory: int, name: str, wanted: tuple[int, int]) -> None:
    try:
        descriptor = os.open(name, _OPENED, dir_fd=directory)
    except OSError:
        return  # a link, or a socket
    try:
        found = os.fstat(descriptor)
        # A second name may be anybody's: where the kernel does not protect them, links to others' files can be made.
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and _owner(found) != wanted:
            os.fchown(descriptor, *wanted)
    finally:
        os.close(descriptor)
