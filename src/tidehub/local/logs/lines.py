"""Lines of log files, whatever is in them: time linear in the bytes, memory bounded for any length of line."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from tidehub.lines import LONGEST_SHOWN, Hide, Splitter, as_is
from tidehub.log_filter import Keep, since
from tidehub.printable import printable
from tidehub.system.files import os_fault

_BLOCK = 64 * 2**10
_AT_ONCE = 2**20
_POLL = 0.3
_ROTATED = 3
_LONGEST_IN_TAIL = 1000


def last_lines(
    path: Path, count: int, hide: Hide = as_is, *, longest: int = LONGEST_SHOWN, since: int = 0
) -> Iterator[bytes]:
    """The last `count` lines of a log, with those that were rotated away (`path.1`, ...) as far as they are needed.

    A log that is gone has none. `since`: where in the log to begin, in bytes; one that was rotated meanwhile is read as
    without. Raises `TidehubError`.
    """
    found: list[tuple[int, int]] = []
    with contextlib.ExitStack() as kept:
        for number in range(_ROTATED + 1):
            file = path.with_name(f"{path.name}.{number}") if number else path
            descriptor = _open(file)
            if descriptor is not None and count > 0:
                kept.callback(os.close, descriptor)
                start, there = _start_of_last(descriptor, count)
                if not number and 0 < since <= os.fstat(descriptor).st_size:
                    found.append((descriptor, max(start, since)))
                    break
                found.append((descriptor, start))
                count -= there
            elif descriptor is not None:
                os.close(descriptor)
            if count <= 0:
                break
        for descriptor, position in reversed(found):
            splitter = Splitter(hide, longest)
            while data := os.pread(descriptor, _BLOCK, position):
                position += len(data)
                yield from splitter.feed(data)
            yield from splitter.rest()


def last_kept(path: Path, count: int, keep: Keep, hide: Hide = as_is) -> list[bytes]:
    """The last `count` lines that `keep` lets pass: more and more of the log's end is read until there are so many."""
    asked = max(count, 1) * 4
    while True:
        lines = list(last_lines(path, asked, hide))
        kept = [line for line in lines if keep(line)]
        if len(kept) >= count or len(lines) < asked:
            return kept[len(kept) - count :] if count < len(kept) else kept
        asked *= 4


def lines_since(path: Path, start: datetime, hide: Hide = as_is) -> Iterator[bytes]:
    """Everything that a log, with what was rotated away, has from `start` on."""
    yield from since(last_lines(path, sys.maxsize, hide), start)


def tail(path: Path, count: int, since: int = 0) -> str:
    """The last lines of a log in one, for a message: without control characters and empty lines.

    `since`: where in the log to begin, in bytes.
    """
    lines = last_lines(path, count, longest=_LONGEST_IN_TAIL, since=since)
    return " / ".join(text for line in lines if (text := printable(line, lines=False).strip()))


def follow(
    files: Mapping[str, Path], hide: Hide = as_is, *, poll: float = _POLL
) -> Iterator[tuple[str, bytes]]:
    """Lines as they are written, with the name of their log, for ever. `poll` is in seconds."""
    followed = {name: Followed(path, hide) for name, path in files.items()}
    while True:
        quiet = True
        for name, one in followed.items():
            for line in one.more():
                quiet = False
                yield name, line
        if quiet:
            time.sleep(poll)


class Followed:
    """A growing file from its present end. It is held open, so that a rotation loses nothing of it."""

    def __init__(self, path: Path, hide: Hide = as_is) -> None:
        self._path = path
        self._splitter = Splitter(hide)
        self._descriptor = _open(path)
        self._position = os.fstat(self._descriptor).st_size if self._descriptor is not None else 0

    def more(self) -> Iterator[bytes]:
        """The lines that have come since, from at most a mebibyte."""
        if self._descriptor is None:
            self._open_next()
        if self._descriptor is None:
            return
        data = os.pread(self._descriptor, _AT_ONCE, self._position)
        self._position += len(data)
        yield from self._splitter.feed(data)
        if not data and self._replaced():
            os.close(self._descriptor)
            self._descriptor = None
            yield from self._splitter.rest()

    def _open_next(self) -> None:
        self._descriptor, self._position = _open(self._path), 0
        self._splitter.clear()

    def _replaced(self) -> bool:
        assert self._descriptor is not None
        ours = os.fstat(self._descriptor)
        try:
            there = self._path.stat()
        except OSError:
            return ours.st_nlink == 0
        return there.st_ino != ours.st_ino or there.st_size < self._position


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise os_fault(error, path, "read") from error


def _start_of_last(descriptor: int, count: int) -> tuple[int, int]:
    """Where the last `count` lines of a file begin, and how many there are."""
    end = os.fstat(descriptor).st_size
    if end and os.pread(descriptor, 1, end - 1) == b"\n":
        end -= 1
    elif not end:
        return 0, 0
    found = 0
    while end > 0:
        start = max(0, end - _BLOCK)
        data = os.pread(descriptor, end - start, start)
        there = data.count(b"\n")
        if found + there >= count:
            at = len(data)
            for _ in range(count - found):
                at = data.rfind(b"\n", 0, at)
            return start + at + 1, count
        found += there
        end = start
    return 0, found + 1
