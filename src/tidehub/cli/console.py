"""Output for a user: moving progress on a terminal, plain lines without control characters elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING
from weakref import WeakKeyDictionary

from tidehub.printable import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status


def print_lines(lines: Iterable[str], stream: IO[str] | None = None) -> None:
    """Print to standard output. A reader that has gone away is not a fault; see `lost` for every other failure.

    What others chose (names, lines of logs, answers of servers) may be in it: control characters show as text.
    """
    target = sys.stdout if stream is None else stream
    if target is None or lost(target):  # None: the caller closed standard output
        return
    encoding = getattr(target, "encoding", None) or "utf-8"
    for line in lines:
        # Characters that this terminal cannot show would end the output with an error.
        text = printable(line).encode(encoding, "backslashreplace").decode(encoding)
        try:
            print(text, file=target)
        except (OSError, ValueError) as error:
            lose(target, error)
            return
    flush(target)


def flush(stream: IO[str]) -> None:
    """Write what is buffered; a failure is kept for `lost`."""
    try:
        stream.flush()
    except (OSError, ValueError) as error:
        lose(stream, error)


def lost(stream: IO[str] | None = None) -> Exception | None:
    """Why nothing can be written any more to `stream` (default: standard output): BrokenPipeError when its reader has
    gone away."""
    target = sys.stdout if stream is None else stream
    return None if target is None else _lost.get(target)


def lose(stream: IO[str], error: Exception) -> None:
    """Write to `stream` no more. What it still buffers goes nowhere: Python would try again at the end of the program,
    complain, and replace the exit code by its own (120)."""
    _lost[stream] = error
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)


_lost: WeakKeyDictionary[IO[str], Exception] = WeakKeyDictionary()


class PlainSay:
    """One line for everything that is said, on standard error."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._last = ""

    def step(self, text: str) -> None:
        # A download says the same step again and again, and how far it is: of use where it moves.
        if text != self._last and not (self._last and text.startswith(f"{self._last}: ")):
            self._last = text
            print_lines([f"{text} ..."], self._stream)

    def done(self, text: str) -> None:
        print_lines([text], self._stream)

    def note(self, text: str) -> None:
        print_lines([text], self._stream)

    def warn(self, text: str) -> None:
        print_lines([f"warning: {text}"], self._stream)

    def rest(self) -> None:
        """Nothing is being done any more."""
        self._last = ""


class TerminalSay:
    """A spinner with the current step; what is finished or worth knowing stays above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None

    def step(self, text: str) -> None:
        from rich.text import Text

        from tidehub.local.software.progress import with_bar

        plain = "utf" not in self._console.encoding.lower()
        text = with_bar(printable(text, lines=False), plain=plain)
        with contextlib.suppress(OSError, ValueError):
            if self._status is None:
                self._status = self._console.status(Text(text))
                self._status.start()
            else:
                self._status.update(Text(text))

    def done(self, text: str) -> None:
        self._line("✓ ", text, "green")

    def note(self, text: str) -> None:
        self._line("", text, None)

    def warn(self, text: str) -> None:
        self._line("! ", text, "yellow")

    def rest(self) -> None:
        """Nothing is being done any more."""
        if self._status is not None:
            with contextlib.suppress(OSError, ValueError):
                self._status.stop()
            self._status = None

    def _line(self, mark: str, text: str, style: str | None) -> None:
        from rich.text import Text

        with contextlib.suppress(OSError, ValueError):
            self._console.print(Text.assemble((mark, style or ""), printable(text)), soft_wrap=True)


ConsoleSay = PlainSay | TerminalSay


def make_say() -> ConsoleSay:
    """For standard error as it is."""
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        from rich.console import Console

        return TerminalSay(Console(stderr=True, highlight=False))
    return PlainSay()
