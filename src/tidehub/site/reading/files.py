"""The text of a site file: what can go wrong with files, in words. Nothing here hangs or reads without bound."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from tidehub import program
from tidehub.errors import Place
from tidehub.site.problems import Problem, SiteError

LARGEST_FILE = 2**20
"""Bytes. Real site files have a few thousand; anything larger is another file given by mistake."""


@dataclass(frozen=True)
class TextFile:
    """What somebody may give: how large it may be, and what to do when it is something else."""

    largest: int
    """Bytes, whole MiB."""
    missing: str | None
    directory: str
    irregular: str
    too_large: str


SITE_FILE = TextFile(
    LARGEST_FILE,
    missing=f"check the name, or write one with: {program.command('init')}",
    directory="give the site file inside it",
    irregular="give a file with the site's YAML",
    too_large="a site file has a few kilobytes: is it another file?",
)


class Unreadable(Exception):
    """A file has no text to give; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.what)
        self.problem = problem


def text_of(path: Path, file: str) -> str:
    """The text of a site file, which messages call `file`. Raises `SiteError`."""
    try:
        return read_text(path, file, SITE_FILE)
    except Unreadable as error:
        raise SiteError(file, [error.problem]) from None


def read_text(path: Path, file: str, wanted: TextFile) -> str:
    """The text of a file, which messages call `file`. Raises `Unreadable`."""

    def refuse(what: str, fix: str | None = None, line: int = 0, column: int = 0) -> Unreadable:
        return Unreadable(Problem(what, where=Place(file, line, column), fix=fix))

    try:
        # Not blocking: opening a named pipe by mistake must not hang.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise refuse("the file does not exist", wanted.missing) from None
    except (OSError, ValueError) as error:
        raise refuse(f"cannot be read ({getattr(error, 'strerror', None) or 'not a file name'})") from None
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise refuse("this is a directory", wanted.directory)
        if not stat.S_ISREG(mode):
            raise refuse("this is not a regular file", wanted.irregular)
        content = read_at_most(handle, wanted.largest + 1)
    except OSError as error:
        raise refuse(f"cannot be read ({error.strerror or error})") from None
    finally:
        os.close(handle)
    if len(content) > wanted.largest:
        raise refuse(f"the file is larger than {wanted.largest >> 20} MiB", wanted.too_large)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise refuse("the file is UTF-16", "save it as UTF-8", 1, 1)
    if content.startswith((b"\x1f\x8b", b"PK\x03\x04")):
        raise refuse("this is an archive", "unpack it, and give what is inside it")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        what = f"the byte 0x{content[error.start]:02x} is not UTF-8"
        raise refuse(what, "save the file as UTF-8", before.count(b"\n") + 1, column) from None


def read_at_most(handle: int, most: int) -> bytes:
    """The first `most` bytes of an open file, all of a shorter one. Raises `OSError`."""
    content = b""
    while len(content) < most and (piece := os.read(handle, most - len(content))):
        content += piece
    return content
