"""The text of a site file: what can go wrong with files, in words. Nothing here hangs or reads without bound."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tidehub.errors import Place
from tidehub.site.problems import Problem, SiteError

LARGEST_FILE = 2**20
"""Bytes. Real site files have a few thousand; anything larger is another file given by mistake."""


def text_of(path: Path, file: str) -> str:
    """The text of a file, which messages call `file`. Raises `SiteError`."""

    def refuse(what: str, fix: str | None = None, line: int = 0, column: int = 0) -> SiteError:
        return SiteError(file, [Problem(what, where=Place(file, line, column), fix=fix)])

    try:
        # Not blocking: opening a named pipe by mistake must not hang.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise refuse("the file does not exist", "check the name, or write one with: tidehub init") from None
    except (OSError, ValueError) as error:
        raise refuse(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise refuse("this is a directory", "give the site file inside it")
        if not stat.S_ISREG(mode):
            raise refuse("this is not a regular file", "give a file with the site's YAML")
        content = read_at_most(handle, LARGEST_FILE + 1)
    except OSError as error:
        raise refuse(f"cannot be read ({error.strerror or error})") from None
    finally:
        os.close(handle)
    if len(content) > LARGEST_FILE:
        raise refuse("the file is larger than 1 MiB", "a site file has a few kilobytes: is it another file?")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise refuse("the file is UTF-16", "save it as UTF-8", 1, 1)
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
