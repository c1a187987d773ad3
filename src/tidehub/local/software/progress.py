"""What a long set-up tells the user who waits: numbered steps, with a bar that moves on a terminal and as plain lines
elsewhere."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from typing import Protocol

from tidehub.printable import printable

_NUMBERED = re.compile(r"\[(\d+)/(\d+)\] ")
_UNKNOWN = 100
"""Columns of a terminal that does not say how many it has."""
_BAR = 12
"""Characters of the bar."""


class Progress(Protocol):
    """Told what is being done. May be called from several threads."""

    def expect(self, steps: int) -> None:
        """So many counted steps are to come."""

    def step(self, text: str, *, counted: bool = True) -> None:
        """A part of the work begins; worth a line in a log. One that is not `counted` comes between."""

    def detail(self, text: str) -> None:
        """Where the current step stands; worth showing only while it lasts."""

    def done(self) -> None:
        """The work ended, well or not."""


class Counted:
    """The numbers of steps: `[2/5] text` where it is known how many there are."""

    def __init__(self) -> None:
        self._expected = self._begun = 0

    def expect(self, steps: int) -> None:
        """So many steps from here on."""
        self._expected, self._begun = self._begun + steps, self._begun

    def numbered(self, text: str, *, counted: bool) -> str:
        """`text` with its number; those that are not counted, or were not expected, have none."""
        if not counted:
            return text
        self._begun += 1
        return f"[{self._begun}/{self._expected}] {text}" if self._begun <= self._expected else text


def with_bar(text: str, *, plain: bool = False) -> str:
    """A numbered step behind a bar of what is done before it; anything else as it is. `plain`: in ASCII."""
    found = _NUMBERED.match(text)
    if found is None:
        return text
    number, total = int(found[1]), max(1, int(found[2]))
    full = round(_BAR * (number - 1) / total)
    done, left = ("#", "-") if plain else ("█", "░")
    return f"{done * full}{left * (_BAR - full)} {text}"


class Silent:
    """Says nothing."""

    def expect(self, steps: int) -> None: ...

    def step(self, text: str, *, counted: bool = True) -> None: ...

    def detail(self, text: str) -> None: ...

    def done(self) -> None: ...


class Plain(Counted):
    """One line a step, as for a log file."""

    def step(self, text: str, *, counted: bool = True) -> None:
        shown = printable(self.numbered(text, counted=counted), lines=False)
        print(f"tidehub: {shown} ...", file=sys.stderr, flush=True)

    def detail(self, text: str) -> None: ...

    def done(self) -> None: ...


class Terminal(Counted):
    """A line a finished step with its seconds; the line of the running one moves."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._step = ""
        self._began = 0.0

    def step(self, text: str, *, counted: bool = True) -> None:
        with self._lock:
            self._finish()
            self._step, self._began = self.numbered(text, counted=counted), time.monotonic()
            self._write(f"{self._bar()} ...")

    def detail(self, text: str) -> None:
        with self._lock:
            if self._step:
                self._write(f"{self._bar()}: {text}")

    def done(self) -> None:
        with self._lock:
            self._finish()

    def _bar(self) -> str:
        return with_bar(self._step, plain="utf" not in (sys.stderr.encoding or "").lower())

    def _finish(self) -> None:
        if self._step:
            self._write(f"{self._step} ({time.monotonic() - self._began:.0f} s)\n")
            self._step = ""

    def _write(self, text: str) -> None:
        width = _columns() - 1
        end = "\n" if text.endswith("\n") else ""
        # Programs that download and build chose some of these words.
        shown = printable(f"  {text.rstrip()}"[:width], lines=False)
        sys.stderr.write(f"\r\x1b[K{shown}{end}")
        sys.stderr.flush()


def on_standard_error() -> Progress:
    """`Terminal` where a user watches, `Plain` elsewhere."""
    return Terminal() if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else Plain()


def _columns() -> int:
    try:
        return max(20, os.get_terminal_size(2).columns or _UNKNOWN)
    except OSError:
        return _UNKNOWN
