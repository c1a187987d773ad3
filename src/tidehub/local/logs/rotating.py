"""Log files: 0600, rotated by size; and a stream cut into redacted lines for them."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

ROTATE_AT = 10 * 2**20
KEPT = 3
LONGEST_LINE = 64 * 2**10
LONGEST_SECRET = 2048


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
