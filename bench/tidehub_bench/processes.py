"""Programs that the bench starts: each has a log, and at the end not one of their descendants is left.

The bench is a child subreaper (prctl(2)): a process whose parent died becomes ours, so that everything started here
can be found by following parents, however it left its session or process group.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tidehub.errors import TidehubError

_PR_SET_CHILD_SUBREAPER = 36
"""linux/prctl.h"""


def parents() -> dict[int, int]:
    """The parent of every process that can be seen."""
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                # The name in parentheses may hold blanks and parentheses itself (proc(5)).
                found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    return found


def descendants(roots: Iterable[int], known: Mapping[int, int] | None = None) -> set[int]:
    """All processes below `roots`, which are not part of the result themselves unless one is below another."""
    known = parents() if known is None else known
    children: dict[int, list[int]] = {}
    for pid, parent in known.items():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


class Programs:
    """Everything the bench started, as a context: leaving it ends all that is left."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self._known: dict[int, subprocess.Popen[bytes]] = {}
        self._leaving = threading.Event()
        self._reaper = threading.Thread(target=self._reap_orphans, daemon=True)

    def __enter__(self) -> Programs:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise TidehubError(f"cannot watch over started processes: {os.strerror(ctypes.get_errno())}")
        self.logs.mkdir(parents=True, exist_ok=True)
        self._reaper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._reaper.join()
        for number, patience in ((signal.SIGTERM, 8.0), (signal.SIGKILL, 5.0)):
            deadline = time.monotonic() + patience
            told: set[int] = set()
            while left := descendants([os.getpid()]):
                for pid in left - told:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, number)
                told |= left
                _reap(left)
                if time.monotonic() > deadline:
                    break
                time.sleep(0.05)

    def start(
        self, name: str, argv: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path
    ) -> subprocess.Popen[bytes]:
        """Start a program whose output is appended to `name`.log."""
        with (self.logs / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                [str(word) for word in argv],
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._known[child.pid] = child
        return child

    def stop(self, child: subprocess.Popen[bytes], *, patience: float) -> None:
        """Ask a program to end, as a service manager does; after `patience` seconds kill it and all below it."""
        below = descendants([child.pid])
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(patience)
        except subprocess.TimeoutExpired:
            below |= descendants([child.pid])
            child.kill()
            child.wait()
        self._known.pop(child.pid, None)
        self.end(below)

    def end(self, pids: Iterable[int]) -> None:
        """Kill what is left of `pids`, which must be descendants of the bench."""
        deadline = time.monotonic() + 10
        while left := descendants([os.getpid()]) & set(pids):
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise TidehubError(f"processes {sorted(left)} cannot be ended")
            time.sleep(0.05)

    def tail(self, name: str, lines: int = 8) -> str:
        """The last lines of a program's log, for an error message."""
        with contextlib.suppress(OSError):
            return "\n".join((self.logs / f"{name}.log").read_text(errors="replace").splitlines()[-lines:])
        return "(no log)"

    def _reap_orphans(self) -> None:
        while not self._leaving.wait(0.1):
            mine = [pid for pid, parent in parents().items() if parent == os.getpid()]
            _reap(pid for pid in mine if pid not in self._known)


def _reap(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
