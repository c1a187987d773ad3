"""Telling the service manager how a start goes: sd_notify(3)'s protocol, one datagram to the socket it names."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Protocol

SOCKET = "NOTIFY_SOCKET"
READY, STOPPING = "READY=1", "STOPPING=1"
_LONGEST_STATUS = 200


def is_awaited() -> bool:
    """Whether this process was started by a manager that waits to be told."""
    return bool(os.environ.get(SOCKET))


def writes_to_journal() -> bool:
    """Whether what this process prints is kept in systemd's journal (systemd.exec(5), JOURNAL_STREAM)."""
    found = os.environ.get("JOURNAL_STREAM", "")
    with contextlib.suppress(OSError):
        return found in {f"{one.st_dev}:{one.st_ino}" for one in (os.fstat(1), os.fstat(2))}
    return bool(found)


def status(text: str) -> str:
    """The line that `systemctl status` shows."""
    return f"STATUS={' '.join(text.split())[:_LONGEST_STATUS]}"


def notify(*lines: str) -> None:
    """Send what changed. Nobody listening, or a manager that has gone, is not a fault."""
    address = os.environ.get(SOCKET, "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        # A manager that reads nothing must not hold the platform up.
        one.settimeout(1.0)
        one.sendto("\n".join(lines).encode(), address)


class _Say(Protocol):
    def step(self, text: str) -> None: ...
    def done(self, text: str) -> None: ...
    def note(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...


class ToldToManager:
    """Says what `say` says, and each step to the service manager too."""

    def __init__(self, say: _Say) -> None:
        self._step = say.step
        self.done = say.done
        self.note = say.note
        self.warn = say.warn

    def step(self, text: str) -> None:
        notify(status(text))
        self._step(text)
