"""Whether somebody asked the operation to end. Ctrl-C as an exception alone can get lost in code that is not ours."""

from __future__ import annotations

import threading
import time

_asked = threading.Event()


def ask() -> None:
    """Somebody asked; may be called from a signal handler."""
    _asked.set()


def forget() -> None:
    """A new operation: what was asked of an earlier one does not count."""
    _asked.clear()


def heed() -> None:
    """Raises `KeyboardInterrupt` where somebody asked, also if the exception of that moment was swallowed."""
    if _asked.is_set():
        raise KeyboardInterrupt


def pause(seconds: float) -> None:
    """Waits, and heeds."""
    heed()
    time.sleep(seconds)
    heed()
