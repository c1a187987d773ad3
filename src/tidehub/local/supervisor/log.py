"""Log files of the parts: 0600, rotated by size, without secrets; and the lines of them that matter."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from tidehub.local.logs.policy import Bucket
from tidehub.printable import printable
from tidehub.secrets.redaction import Redactor

ROTATE_AT = 10 * 2**20
KEPT = 3
REMEMBERED_LINES = 200
REMEMBERED_OF_A_LINE = 4096
LONGEST_LINE = 64 * 2**10
LONGEST_SECRET = 2048
PART_RATE, PART_BURST = 2.0 * 2**20, 16.0 * 2**20
"""Bytes a second, and at once, that a part may print; one that prints more waits, and the supervisor does not."""

__all__ = ["LineCutter", "LogPipe", "Redactor", "RotatingLog", "lines_that_matter", "outputs_to"]

_CAUSES = ("Traceback (most recent call last)", "critical", "fatal", "error", "cannot", "failed", "refused")


class RotatingLog:
    """Appends to `path`; past `limit` bytes it becomes `path.1`, and so on up to `kept`.

    A full disk or a removed directory loses lines, never the platform. Others may append to the same file: its
    real size counts. `outputs` are descriptors of this process that go to the current file, too (1 and 2 of a daemon).
    """

    def __init__(
        self, path: Path, *, limit: int = ROTATE_AT, kept: int = KEPT, outputs: Sequence[int] = ()
    ) -> None:
        self.path = path
        self._limit = limit
        self._kept = kept
        self._outputs = outputs
        self._descriptor: int | None = None

    def write(self, data: bytes) -> None:
        """Append; rotates first when the file is or would get too large, so also for no data at all."""
        try:
            if self._descriptor is None:
                self._open()
            assert self._descriptor is not None
            size = os.fstat(self._descriptor).st_size
            if size and size + len(data) > self._limit:
                self._rotate()
            os.write(self._descriptor, data)
        except OSError:
            self.close()

    def close(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> None:
        # Without waiting: in place of the file there might be a pipe that nobody reads.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(self.path, flags, 0o600)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.geteuid():
            os.close(descriptor)
            raise OSError(f"{self.path} is not a log of ours")
        os.fchmod(descriptor, 0o600)
        self._descriptor = descriptor
        for number in self._outputs:
            os.dup2(descriptor, number)

    def _rotate(self) -> None:
        self.close()
        for number in range(self._kept, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            newer = self.path.with_name(f"{self.path.name}.{number - 1}") if number > 1 else self.path
            if newer.exists():
                newer.replace(older)
        self._open()


def outputs_to(path: Path) -> list[int]:
    """Which of this process's standard output and error go to this file."""
    with contextlib.suppress(OSError):
        file = path.stat()
        return [number for number in (1, 2) if os.path.samestat(os.fstat(number), file)]
    return []


class LineCutter:
    """A stream in redacted pieces that end with a line. A line without end is cut into lines of `longest` bytes.

    Its work is linear in the bytes: secrets hold no line feeds, so whole chunks are redacted at once.
    """

    def __init__(self, redact: Callable[[bytes], bytes], longest: int = LONGEST_LINE) -> None:
        self._redact = redact
        self._longest = longest
        self._rest = bytearray()

    def feed(self, data: bytes) -> bytes:
        """The lines that are whole now, possibly none."""
        end = data.rfind(b"\n") + 1
        pieces = []
        if end:
            pieces.append(self._redact(bytes(self._rest) + data[:end]))
            self._rest = bytearray()
        self._rest += data[end:]
        if len(self._rest) > self._longest:
            # A secret whose second half is still to come lies in what is kept.
            clean = self._redact(bytes(self._rest))
            pieces.append(clean[:-LONGEST_SECRET] + b"\n")
            self._rest = bytearray(clean[-LONGEST_SECRET:])
        return b"".join(pieces)

    def rest(self) -> bytes:
        """What is left at the end of the stream, as a line."""
        rest, self._rest = self._redact(bytes(self._rest)), bytearray()
        return rest + b"\n" if rest else b""


class LogPipe(asyncio.Protocol):
    """What one process prints: each line redacted, written to its log, the last ones remembered.

    A process that prints more than `rate` is not read for a while, so that it waits and the supervisor goes on.
    """

    def __init__(
        self,
        log: RotatingLog,
        redact: Callable[[bytes], bytes],
        *,
        rate: float = PART_RATE,
        burst: float = PART_BURST,
    ) -> None:
        self._log = log
        self._cutter = LineCutter(redact)
        self._bucket = Bucket(rate, burst, time.monotonic())
        self._transport: asyncio.BaseTransport | None = None
        self.lines: deque[str] = deque(maxlen=REMEMBERED_LINES)
        """As text without control characters, the end of very long ones cut off."""
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._take(self._cutter.feed(data))
        now = time.monotonic()
        self._bucket.take(len(data), now)
        wait = self._bucket.wait(now)
        if wait and isinstance(self._transport, asyncio.ReadTransport):
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(wait, self._go_on, self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._take(self._cutter.rest())
        self.ended.set()

    @staticmethod
    def _go_on(transport: asyncio.ReadTransport) -> None:
        if not transport.is_closing():
            transport.resume_reading()

    def _take(self, data: bytes) -> None:
        if not data:
            return
        self._log.write(data)
        for line in data[:-1].rsplit(b"\n", REMEMBERED_LINES)[-REMEMBERED_LINES:]:
            self.lines.append(printable(line[:REMEMBERED_OF_A_LINE]).rstrip())


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
