"""What the parts print: into their logs, within bounds, without secrets; and the lines of it that matter."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from tidehub.local.logs.policy import Bucket
from tidehub.local.logs.rotating import LineCutter, RotatingLog, outputs_to
from tidehub.local.supervisor.platform import Say
from tidehub.printable import printable
from tidehub.secrets.redaction import Redactor

REMEMBERED_LINES = 200
REMEMBERED_OF_A_LINE = 4096
PART_RATE, PART_BURST = 2.0 * 2**20, 16.0 * 2**20
"""Bytes a second, and at once, that a part may print; one that prints more waits, and the supervisor does not."""

__all__ = ["LineCutter", "LogPipe", "LoggedSay", "Redactor", "RotatingLog", "lines_that_matter", "outputs_to"]

_CAUSES = ("Traceback (most recent call last)", "critical", "fatal", "error", "cannot", "failed", "refused")


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
    """The last lines from which a user sees why a process failed: from the last cause on, at most `most`.

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


class LoggedSay:
    """What should be known or acted on goes to the supervisor's log too: a detached platform has no terminal."""

    def __init__(self, say: Say, log: Callable[[str], None]) -> None:
        self._log = log
        self._said = say
        self.step = say.step
        self.done = say.done

    def note(self, text: str) -> None:
        self._log(text)
        self._said.note(text)

    def warn(self, text: str) -> None:
        self._log(f"warning: {text}")
        self._said.warn(text)
