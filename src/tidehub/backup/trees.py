"""Whole directories in a backup: owners by number, modes, links, extended attributes; and the way back.

A home may be in use while it is copied. A file that shrinks is filled with zeros to the size it had, one that goes
away is left out, and both are said; databases that must be consistent are not copied this way.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from tidehub.errors import TidehubError

ATTRIBUTE = "SCHILY.xattr."
"""GNU tar's and star's name for extended attributes in pax headers."""
_KEPT_ATTRIBUTES = ("user.", "system.posix_acl_")
DEEPEST = 256
"""Directories within each other that are followed; each holds one descriptor open."""
Member = tuple[tarfile.TarInfo, IO[bytes] | None]


class _Steady(io.RawIOBase):
    """Exactly `size` bytes of a file that may be shrinking."""

    def __init__(self, raw: IO[bytes], size: int, shrank: Callable[[], None]) -> None:
        self._raw, self._left, self._shrank, self._told = raw, size, shrank, False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._raw.read(wanted)
        if len(data) < wanted:
            if not self._told:
                self._told = True
                self._shrank()
            data += bytes(wanted - len(data))
        self._left -= wanted
        return data


def pack(root: Path, name: str, warn: Callable[[str], None]) -> Iterator[Member]:
    """The members of `root` under `name`, a directory before what is in it. Sockets and pipes are left out.

    Goes by descriptors: somebody who puts a link in a directory's place leads it nowhere.
    """
    try:
        top = os.open(root.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        warn(f"{root} was left out: {os.strerror(error.errno or 0)}")
        return
    try:
        yield from _Packing(warn).entry(top, root.name, str(root), name, 0)
    finally:
        os.close(top)


class _Packing:
    """One tree: which file of several names came first, and who is told what was left out."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._first: dict[tuple[int, int], str] = {}

    def entry(self, parent: int, entry: str, shown: str, name: str, depth: int) -> Iterator[Member]:
        """The members of one entry of the open directory `parent`."""
        try:
            found = os.stat(entry, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                member = _member(name, found, ())
                member.type, member.linkname = tarfile.SYMTYPE, os.readlink(entry, dir_fd=parent)
                opened = -1
            elif stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
                kind = os.O_DIRECTORY if stat.S_ISDIR(found.st_mode) else 0
                opened = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | kind, dir_fd=parent)
            else:
                return
        except OSError as error:
            self._left_out(shown, error)
            return
        if opened < 0:
            yield member, None
            return
        try:
            yield from self._opened(opened, shown, name, depth)
        finally:
            os.close(opened)

    def _opened(self, opened: int, shown: str, name: str, depth: int) -> Iterator[Member]:
        found = os.fstat(opened)
        member = _member(name, found, _attributes(opened))
        if stat.S_ISREG(found.st_mode):
            first = self._first.get((found.st_dev, found.st_ino))
            if first is not None:
                member.type, member.linkname = tarfile.LNKTYPE, first
                yield member, None
                return
            if found.st_nlink > 1:
                self._first[found.st_dev, found.st_ino] = name
            member.size = found.st_size
            with os.fdopen(os.dup(opened), "rb") as raw:
                steady = _Steady(
                    raw, member.size, lambda: self._warn(f"{shown} became shorter while it was copied")
                )
                yield member, steady  # type: ignore[misc]
            return
        member.type = tarfile.DIRTYPE
        try:
            entries = sorted(os.listdir(opened))
        except OSError as error:
            self._left_out(shown, error)
            return
        yield member, None
        if depth == DEEPEST:
            if entries:
                self._warn(f"what is in {shown} was left out: more than {DEEPEST} directories deep")
            return
        for entry in entries:
            yield from self.entry(opened, entry, f"{shown}/{entry}", f"{name}/{entry}", depth + 1)

    def _left_out(self, shown: str, error: OSError) -> None:
        self._warn(f"{shown} was left out: {os.strerror(error.errno or 0)}")


def _member(name: str, found: os.stat_result, attributes: Iterable[tuple[str, bytes]]) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode, member.uid, member.gid = stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid
    member.mtime = found.st_mtime
    # A pax header is text: bytes that are none travel as surrogates.
    member.pax_headers = {
        ATTRIBUTE + attribute: value.decode("utf-8", "surrogateescape") for attribute, value in attributes
    }
    return member


def _attributes(opened: int) -> list[tuple[str, bytes]]:
    try:
        return [
            (name, os.getxattr(opened, name))
            for name in os.listxattr(opened)
            if name.startswith(_KEPT_ATTRIBUTES)
        ]
    except OSError:
        return []


def unpack(members: Iterable[Member], into: Path, *, owners: bool, roots: Iterable[str] = ()) -> int:
    """Make the members below `into`, which is new; returns how many. `owners`: give each its owner, as root.
    `roots` are directories of `into` that are there already.

    Raises `TidehubError` for a member that would land elsewhere: behind a link, above, or at an absolute path.
    """
    made = {"", *roots}
    directories: list[tuple[Path, tarfile.TarInfo]] = []
    count = 0
    for member, content in members:
        parts = member.name.split("/")
        parent = "/".join(parts[:-1])
        if parent not in made or any(part in ("", ".", "..") for part in parts):
            raise TidehubError(f"the backup holds {member.name!r}, which lies in no directory of it")
        path = into / member.name
        if member.isdir():
            # Its own mode comes last: it may forbid writing.
            path.mkdir(mode=0o700)
            made.add(member.name)
            directories.append((path, member))
        elif member.issym():
            path.symlink_to(member.linkname)
        elif member.islnk():
            if "/".join(member.linkname.split("/")[:-1]) not in made:
                raise TidehubError(f"the backup links {member.name!r} to something outside")
            os.link(into / member.linkname, path, follow_symlinks=False)
        elif member.isreg() and content is not None:
            _write(path, content)
        else:
            raise TidehubError(f"the backup holds {member.name!r}, which is neither file, directory nor link")
        if not member.isdir() and not member.islnk():
            _settle(path, member, owners=owners)
        count += 1
    for path, member in reversed(directories):
        _settle(path, member, owners=owners)
    return count


def _write(path: Path, content: IO[bytes]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        while chunk := content.read(2**20):
            file.write(chunk)


def _settle(path: Path, member: tarfile.TarInfo, *, owners: bool) -> None:
    """Owner, attributes, mode and time, in an order in which none undoes another."""
    if owners:
        os.chown(path, member.uid, member.gid, follow_symlinks=False)
    for header, value in member.pax_headers.items():
        if header.startswith(ATTRIBUTE) and header.removeprefix(ATTRIBUTE).startswith(_KEPT_ATTRIBUTES):
            # A file system without them is no reason to lose the file.
            with contextlib.suppress(OSError):
                os.setxattr(
                    path,
                    header.removeprefix(ATTRIBUTE),
                    value.encode("utf-8", "surrogateescape"),
                    follow_symlinks=False,
                )
    if not member.issym():
        path.chmod(member.mode)
    os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)
