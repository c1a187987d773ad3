"""Log files of the parts: 0600, rotated by size, without secrets; and the lines of them that matter."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from tidehub.secrets.redaction import Redactor

ROTATE_AT = 10 * 2**20
KEPT = 3
REMEMBERED_LINES = 200
LONGEST_LINE = 64 * 2**10

__all__ = ["LogPipe", "Redactor", "RotatingLog", "lines_that_matter"]

_CAUSES = ("Traceback (most recent call last)", "critical", "fatal", "error", "cannot", "failed", "refused")


class RotatingLog:
    """Appends to `path`; past `limit` bytes it becomes `path.1`, and so on up to `kept`.

    A full disk or a removed directory loses lines, never the platform.
    """

    def __init__(self, path: Path, *, limit: int = ROTATE_AT, kept: int = KEPT) -> None:
        self.path = path
        self._limit = limit
        self._kept = kept
        self._descriptor: int | None = None
        self._size = 0

    def write(self, data: bytes) -> None:
        try:
            if self._descriptor is None:
                self._open()
            elif self._size + len(data) > self._limit:
                self._rotate()
            assert self._descriptor is not None
            self._size += os.write(self._descriptor, data)
        except OSError:
            self.close()

    def close(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def _rotate(self) -> None:
        self.close()
        for number in range(self._kept, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            newer = self.path.with_name(f"{self.path.name}.{number - 1}") if number > 1 else self.path
            if newer.exists():
                newer.replace(older)
        self._open()


class LogPipe(asyncio.Protocol):
    """What one process prints: each line redacted, written to its log, the last ones remembered."""

    def __init__(self, log: RotatingLog, redact: Callable[[bytes], bytes]) -> None:
        self._log = log
        self._redact = redact
        self._rest = b""
        self.lines: deque[str] = deque(maxlen=REMEMBERED_LINES)
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            whole.append(self._rest)
            self._rest = b""
        for line in whole:
            self._take(line)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._rest:
            self._take(self._rest)
            self._rest = b""
        self.ended.set()

    def _take(self, line: bytes) -> None:
        line = self._redact(line)
        self._log.write(line + b"\n")
        self.lines.append(line.decode(errors="replace").rstrip())


def lines_that_matter(lines: Sequence[str], most: int = 12) -> list[str]:
    """The last lines from which a person sees why a process failed: from the last cause on, at most `most`.

    Of a longer stretch (a traceback) its end is taken, because the exception stands there.
    """
    told = [line for line in lines if line.strip()]
    tail = told[-4 * most :]
    causes = [number for number, line in enumerate(tail) if any(word in line.lower() for word in _LOWERED)]
    if not causes:
        return told[-most:]
    traceback = [number for number in causes if tail[number].startswith(_CAUSES[0])]
    first = traceback[-1] if traceback else causes[max(0, len(causes) - most)]
    return tail[first:][-most:]


_LOWERED = tuple(word.lower() for word in _CAUSES)
