"""Trees of a backup on their way back, below a directory that nobody else can reach: by descriptors, however deep."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from tidehub.backup.trees import ATTRIBUTE, KEPT_ATTRIBUTES, SPARSE_MAP, SPARSE_SIZE, Member, Segment
from tidehub.errors import TidehubError
from tidehub.system.sweeper import Emptying

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 2**20
_ASTRAY = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""What open(2) says of a name that is missing, or not a directory but a file or a link."""


def unpack(members: Iterable[Member], into: Path, *, owners: bool, roots: Iterable[str] = ()) -> int:
    """Make the members below `into`, which is new; returns how many. `owners`: give each its owner, as root.
    `roots` are directories of `into` that are there already.

    Raises `TidehubError` for a member that would land elsewhere (behind a link, above, or at an absolute path),
    `OSError` where something cannot be made.
    """
    unpacking = _Unpacking(into, roots, owners=owners)
    count = 0
    try:
        for member, content in members:
            unpacking.add(member, content)
            count += 1
        unpacking.go([])
    finally:
        unpacking.close()
    return count


def remove_tree(root: Path) -> None:
    """Remove the directory `root`, however deep it is; does nothing where there is none. Raises `OSError`.

    Follows no link; nobody but the operator reaches what is in it.
    """
    try:
        top = os.open(root, _DIRECTORY)
    except FileNotFoundError:
        return
    try:
        Emptying(top, math.inf, of_anybody=True).run()
    finally:
        os.close(top)
    root.rmdir()


def _instead(old: int, new: int) -> int:
    os.close(old)
    return new


class _Unpacking:
    """Stands in one directory at a time; a directory gets its owner, mode and time when it is left."""

    def __init__(self, into: Path, roots: Iterable[str], *, owners: bool) -> None:
        self._top = os.open(into, _DIRECTORY)
        self._here = os.dup(self._top)
        self._way: list[tuple[str, tarfile.TarInfo | None]] = []
        self._tops = set(roots)
        self._owners = owners

    def close(self) -> None:
        os.close(self._here)
        os.close(self._top)

    def add(self, member: tarfile.TarInfo, content: IO[bytes] | None) -> None:
        parts = self._parts(member.name, member.name)
        if len(parts) > 1 and parts[0] not in self._tops:
            raise _astray(member.name)
        try:
            self.go(parts[:-1])
        except OSError as error:
            if error.errno in _ASTRAY:
                raise _astray(member.name) from error
            raise
        name = parts[-1]
        if member.isdir():
            # Its own mode comes last: it may forbid writing.
            os.mkdir(name, 0o700, dir_fd=self._here)
            if len(parts) == 1:
                self._tops.add(name)
            self._enter(name, member)
        elif member.issym():
            os.symlink(member.linkname, name, dir_fd=self._here)
            if self._owners:
                os.chown(name, member.uid, member.gid, dir_fd=self._here, follow_symlinks=False)
            os.utime(name, (member.mtime, member.mtime), dir_fd=self._here, follow_symlinks=False)
        elif member.islnk():
            self._link(member, name)
        elif member.isreg() and content is not None:
            descriptor = os.open(name, _NEW, 0o600, dir_fd=self._here)
            try:
                _write(descriptor, member, content)
                self._settle(descriptor, member)
            finally:
                os.close(descriptor)
        else:
            raise TidehubError(f"the backup holds {member.name!r}, which is neither file, directory nor link")

    def go(self, parts: list[str]) -> None:
        """Stand in the directory `parts`, which must be there."""
        same = 0
        while same < min(len(parts), len(self._way)) and self._way[same][0] == parts[same]:
            same += 1
        while len(self._way) > same:
            _, member = self._way.pop()
            left, self._here = self._here, os.open("..", _DIRECTORY, dir_fd=self._here)
            try:
                if member is not None:
                    self._settle(left, member)
            finally:
                os.close(left)
        for name in parts[same:]:
            self._enter(name, None)

    def _enter(self, name: str, member: tarfile.TarInfo | None) -> None:
        self._here = _instead(self._here, os.open(name, _DIRECTORY, dir_fd=self._here))
        self._way.append((name, member))

    def _link(self, member: tarfile.TarInfo, name: str) -> None:
        parts = self._parts(member.linkname, member.name)
        if len(parts) == 1 or parts[0] not in self._tops:
            raise TidehubError(f"the backup links {member.name!r} to something outside")
        place = os.dup(self._top)
        try:
            for part in parts[:-1]:
                place = _instead(place, os.open(part, _DIRECTORY, dir_fd=place))
            os.link(parts[-1], name, src_dir_fd=place, dst_dir_fd=self._here, follow_symlinks=False)
        except OSError as error:
            raise TidehubError(f"the backup links {member.name!r} to something outside") from error
        finally:
            os.close(place)

    def _settle(self, descriptor: int, member: tarfile.TarInfo) -> None:
        """Owner, attributes, mode and time, in an order in which none undoes another."""
        if self._owners:
            os.fchown(descriptor, member.uid, member.gid)
        for header, value in member.pax_headers.items():
            if header.startswith(ATTRIBUTE) and header.removeprefix(ATTRIBUTE).startswith(KEPT_ATTRIBUTES):
                # A file system without them is no reason to lose the file.
                with contextlib.suppress(OSError):
                    os.setxattr(
                        descriptor, header.removeprefix(ATTRIBUTE), value.encode("utf-8", "surrogateescape")
                    )
        os.fchmod(descriptor, member.mode)
        os.utime(descriptor, (member.mtime, member.mtime))

    def _parts(self, name: str, shown: str) -> list[str]:
        parts = name.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise _astray(shown)
        return parts


def _write(descriptor: int, member: tarfile.TarInfo, content: IO[bytes]) -> None:
    """The bytes at their places; what lies between stays a hole."""
    size, segments = _layout(member)
    os.ftruncate(descriptor, size)
    for offset, length in segments:
        while length:
            data = content.read(min(length, _CHUNK))
            if not data:
                raise TidehubError(f"{member.name!r} in the backup is shorter than it says")
            written = os.pwrite(descriptor, data, offset)
            while written < len(data):
                written += os.pwrite(descriptor, data[written:], offset + written)
            offset, length = offset + len(data), length - len(data)


def _layout(member: tarfile.TarInfo) -> tuple[int, list[Segment]]:
    """How long a file is, and where its bytes go. Raises `TidehubError` for a map that makes no sense."""
    if SPARSE_MAP not in member.pax_headers:
        return member.size, [(0, member.size)]
    try:
        size = int(member.pax_headers[SPARSE_SIZE])
        numbers = [int(number) for number in member.pax_headers[SPARSE_MAP].split(",")]
        segments = list(zip(numbers[::2], numbers[1::2], strict=True))
    except (KeyError, ValueError):
        size, segments = -1, []
    end = 0
    for offset, length in segments:
        if offset < end or length < 0:
            size = -1
            break
        end = offset + length
    if end > size or sum(length for _, length in segments) != member.size:
        raise TidehubError(f"the backup holds {member.name!r} with a map of holes that makes no sense")
    return size, segments


def _astray(name: str) -> TidehubError:
    return TidehubError(f"the backup holds {name!r}, which lies in no directory of it")
