"""What a long set-up tells the user who waits: a moving line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Protocol

from tidehub.printable import printable


class Progress(Protocol):
    """Told what is being done. May be called from several threads."""

    def step(self, text: str) -> None:
        """A part of the work begins; worth a line in a log."""

    def detail(self, text: str) -> None:
        """Where the current step stands; worth showing only while it lasts."""

    def done(self) -> None:
        """The work ended, well or not."""


class Silent:
    """Says nothing."""

    def step(self, text: str) -> None: ...

    def detail(self, text: str) -> None: ...

    def done(self) -> None: ...


class Plain:
    """One line a step, as for a log file."""

    def step(self, text: str) -> None:
        print(f"tidehub: {printable(text, lines=False)} ...", file=sys.stderr, flush=True)

    def detail(self, text: str) -> None: ...

    def done(self) -> None: ...


class Terminal:
    """A line a finished step with its seconds; the line of the running one moves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._step = ""
        self._began = 0.0

    def step(self, text: str) -> None:
        with self._lock:
            self._finish()
            self._step, self._began = text, time.monotonic()
            self._write(f"  {text} ...")

    def detail(self, text: str) -> None:
        with self._lock:
            if self._step:
                self._write(f"  {self._step}: {text}")

    def done(self) -> None:
        with self._lock:
            self._finish()

    def _finish(self) -> None:
        if self._step:
            self._write(f"  {self._step} ({time.monotonic() - self._began:.0f} s)\n")
            self._step = ""

    def _write(self, text: str) -> None:
        width = _columns() - 1
        end = "\n" if text.endswith("\n") else ""
        # Programs that download and build chose some of these words.
        shown = printable(text.rstrip()[:width], lines=False)
        sys.stderr.write(f"\r\x1b[K{shown}{end}")
        sys.stderr.flush()


def on_standard_error() -> Progress:
    """`Terminal` where a user watches, `Plain` elsewhere."""
    return Terminal() if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else Plain()


def _columns() -> int:
    try:
        return max(20, os.get_terminal_size(2).columns)
    except OSError:
        return 100
