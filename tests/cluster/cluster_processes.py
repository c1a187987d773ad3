"""Processes of a test cluster: they end with the test run, however that ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

LAST_LINES = 25


class Process:
    """One program with a log file, ended by the kernel when this process dies."""

    def __init__(self, name: str, command: Sequence[str | Path], directory: Path) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self._command = [*dies_with_parent(), *map(str, command)]
        self._directory = directory
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, once more after `kill`. The caller's thread must live as long as it (PDEATHSIG)."""
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(self._directory)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        return self._running is not None and self._running.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the program and its children."""
        if self._running is not None and self._running.poll() is None:
            os.killpg(self._running.pid, number)

    def kill(self) -> None:
        """End it at once, also when it is stopped."""
        if self._running is not None:
            self.send(signal.SIGKILL)
            self._running.wait()
            self._running = None

    def tail(self) -> str:
        """The end of its log, with its name."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join([f"-- {self.name}", *lines[-LAST_LINES:]])


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listened on a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def dies_with_parent() -> list[str]:
    """What to put before a command so that the kernel ends it with the thread that starts it."""
    setpriv = shutil.which("setpriv", path="/usr/bin:/bin:/usr/local/bin")
    assert setpriv is not None, "setpriv (util-linux) is missing"
    return [setpriv, "--pdeathsig", "KILL", "--"]
