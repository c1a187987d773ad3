"""Whole directories in a backup: owners by number, modes, links, extended attributes; and the way back.

A home may be in use while it is copied, by somebody who moves names about to mislead us: everything goes by
descriptors, follows no link and stays on the home's file system. A file that shrinks is filled with zeros to the size
it had, one that goes away is left out, and both are said; databases that must be consistent are not copied this way.
Holes stay holes, so that what a file takes on the disk decides how long it takes here.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ATTRIBUTE = "SCHILY.xattr."
"""GNU tar's and star's name for extended attributes in pax headers."""
SPARSE_MAP, SPARSE_SIZE, SPARSE_COUNT = "GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.numblocks"
"""Pax headers of a file with holes (GNU tar's manual, "PAX Format, Version 0.1"). Not version 1.0: CPython's tarfile
loses its place behind a member in that format that stores 8 GiB or more."""
KEPT_ATTRIBUTES = ("user.", "system.posix_acl_")
DEEPEST = 4096
"""Directories within each other that are followed."""
LONGEST = 32768
"""Bytes of a name below its home: each is written in full, so a tree's size on the disk must bound what it takes."""
KEPT_OPEN = 256
"""So many levels keep a descriptor. Below, the way up is `..`, which is compared with where we came from."""
Member = tuple[tarfile.TarInfo, IO[bytes] | None]
Segment = tuple[int, int]
"""Offset and length in bytes."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _Data(io.RawIOBase):
    """The bytes of a file's segments, one after the other: exactly so many, also when the file is shrinking."""

    def __init__(self, opened: int, segments: Sequence[Segment], shrank: Callable[[], None]) -> None:
        self._opened, self._left, self._shrank, self._told = opened, list(reversed(segments)), shrank, False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        found = bytearray()
        while self._left and (size < 0 or len(found) < size):
            offset, length = self._left.pop()
            wanted = length if size < 0 else min(length, size - len(found))
            data = os.pread(self._opened, wanted, offset)
            if not data:
                if not self._told:
                    self._told = True
                    self._shrank()
                data = bytes(wanted)
            if len(data) < length:
                self._left.append((offset + len(data), length - len(data)))
            found += data
        return bytes(found)


def segments_of(opened: int, size: int) -> list[Segment]:
    """Where the first `size` bytes of a file hold data (lseek(2), SEEK_DATA); all of it where nobody knows."""
    found: list[Segment] = []
    at = 0
    try:
        while at < size:
            start = os.lseek(opened, at, os.SEEK_DATA)
            end = min(os.lseek(opened, start, os.SEEK_HOLE), size)
            if start >= end:
                break
            found.append((start, end - start))
            at = end
    except OSError as error:
        if error.errno != errno.ENXIO:  # which says: no data from here to the end
            return [(0, size)] if size else []
    return found


@dataclass
class _Level:
    """A directory on the way down to where we are."""

    descriptor: int
    """-1: closed, deeper levels hold the place."""
    place: tuple[int, int]
    names: list[str]
    """What is still to be copied, the next one last."""
    shown: str
    name: str


def pack(root: Path, name: str, warn: Callable[[str], None]) -> Iterator[Member]:
    """The members of `root` under `name`, a directory before what is in it. Sockets and pipes are left out.

    The parent of `root` must be the operator's; whoever puts a link in a directory's place leads it nowhere.
    """
    packing = _Packing(warn)
    try:
        yield from packing.tree(root, name)
    finally:
        packing.close()


class _Packing:
    """One tree: which file of several names came first, and who is told what was left out."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._first: dict[tuple[int, int], str] = {}
        self._levels: list[_Level] = []
        self._device: int | None = None

    def tree(self, root: Path, name: str) -> Iterator[Member]:
        try:
            top = os.open(root.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            self._left_out(str(root), error)
            return
        try:
            yield from self._entry(top, root.name, str(root), name)
        finally:
            os.close(top)
        while self._levels:
            level = self._levels[-1]
            if level.names:
                entry = level.names.pop()
                yield from self._entry(
                    level.descriptor, entry, f"{level.shown}/{entry}", f"{level.name}/{entry}"
                )
            else:
                self._leave()

    def close(self) -> None:
        for level in self._levels:
            if level.descriptor >= 0:
                os.close(level.descriptor)
        self._levels.clear()

    def _entry(self, parent: int, entry: str, shown: str, name: str) -> Iterator[Member]:
        """The member of one entry of the open directory `parent`; a directory becomes the deepest level."""
        try:
            found = os.stat(entry, dir_fd=parent, follow_symlinks=False)
            if self._device is None:
                self._device = found.st_dev
            if found.st_dev != self._device:
                self._warn(f"{shown} was left out: another file system is mounted there")
                return
            if stat.S_ISLNK(found.st_mode):
                member = _member(name, found, ())
                member.type, member.linkname = tarfile.SYMTYPE, os.readlink(entry, dir_fd=parent)
                opened = -1
            elif stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
                kind = os.O_DIRECTORY if stat.S_ISDIR(found.st_mode) else 0
                opened = os.open(
                    entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | kind, dir_fd=parent
                )
            else:
                return
        except OSError as error:
            self._left_out(shown, error)
            return
        if opened < 0:
            yield member, None
            return
        kept = False
        try:
            found = os.fstat(opened)
            if stat.S_ISREG(found.st_mode):
                yield self._file(opened, found, shown, name)
            elif stat.S_ISDIR(found.st_mode):
                entries = sorted(os.listdir(opened), reverse=True)  # noqa: PTH208  (of a descriptor)
                yield _directory(name, found, opened), None
                kept = self._enter(opened, found, entries, shown, name)
        except OSError as error:
            self._left_out(shown, error)
        finally:
            if not kept:
                os.close(opened)

    def _file(self, opened: int, found: os.stat_result, shown: str, name: str) -> Member:
        member = _member(name, found, _attributes(opened))
        first = self._first.get((found.st_dev, found.st_ino))
        if first is not None:
            member.type, member.linkname = tarfile.LNKTYPE, first
            return member, None
        if found.st_nlink > 1:
            self._first[found.st_dev, found.st_ino] = name
        segments = segments_of(opened, found.st_size)
        member.size = sum(length for _, length in segments)
        if member.size < found.st_size:
            member.pax_headers = {**member.pax_headers, **_sparse_headers(segments, found.st_size)}
        return member, _Data(
            opened, segments, lambda: self._warn(f"{shown} became shorter while it was copied")
        )  # type: ignore[return-value]

    def _enter(self, opened: int, found: os.stat_result, entries: list[str], shown: str, name: str) -> bool:
        """Go down into a directory, which keeps `opened` then. False: it is empty or too deep."""
        if not entries:
            return False
        if len(self._levels) >= DEEPEST or len(os.fsencode(name)) > LONGEST:
            self._warn(f"what is in {_short(shown)} was left out: {_TOO_DEEP}")
            return False
        if len(self._levels) > KEPT_OPEN:
            os.close(self._levels[-1].descriptor)
            self._levels[-1].descriptor = -1
        self._levels.append(_Level(opened, (found.st_dev, found.st_ino), entries, shown, name))
        return True

    def _leave(self) -> None:
        """Go up one level; as far up as needed, when somebody moved the directory where we were."""
        left = self._levels.pop()
        above = self._levels[-1] if self._levels else None
        if above is not None and above.descriptor < 0:
            with contextlib.suppress(OSError):
                up = os.open("..", _DIRECTORY, dir_fd=left.descriptor)
                found = os.fstat(up)
                if (found.st_dev, found.st_ino) == above.place:
                    above.descriptor = up
                else:
                    os.close(up)
        os.close(left.descriptor)
        while self._levels and self._levels[-1].descriptor < 0:
            moved = self._levels.pop()
            if moved.names:
                self._warn(
                    f"the rest of {_short(moved.shown)} was left out: it was moved while it was copied"
                )

    def _left_out(self, shown: str, error: OSError) -> None:
        self._warn(f"{_short(shown)} was left out: {os.strerror(error.errno or 0)}")


_TOO_DEEP = f"more than {DEEPEST} directories deep, or a name of more than {LONGEST} bytes"


def _short(shown: str) -> str:
    return shown if len(shown) <= 400 else f"{shown[:200]}...{shown[-200:]}"


def _directory(name: str, found: os.stat_result, opened: int) -> tarfile.TarInfo:
    member = _member(name, found, _attributes(opened))
    member.type = tarfile.DIRTYPE
    return member


def _sparse_headers(segments: Sequence[Segment], size: int) -> dict[str, str]:
    # As GNU tar writes it: a last segment of no length marks a hole at the end.
    listed = [*segments] if segments and sum(segments[-1]) == size else [*segments, (size, 0)]
    return {
        SPARSE_SIZE: str(size),
        SPARSE_COUNT: str(len(listed)),
        SPARSE_MAP: ",".join(f"{offset},{length}" for offset, length in listed),
    }


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
            if name.startswith(KEPT_ATTRIBUTES)
        ]
    except OSError:
        return []
