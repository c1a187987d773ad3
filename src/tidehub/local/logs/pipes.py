"""The pipes that users' programs write their logs to, in a directory that only the platform can enter.

A program gets a pipe as its standard output and error, never a file of ours: what it truncates, seeks or fills is a
pipe, and a full one makes that program wait and nobody else. It is opened for reading *and* writing (fifo(7)), so
that the program itself counts as a reader: when the log writer dies, nothing gets SIGPIPE, and the next writer
opens the same pipe by its name and goes on. The name says which log the pipe feeds and whose it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import struct
import termios
import threading
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

from tidehub.errors import Place, TidehubError
from tidehub.local.supervisor.platform import Check, Ready
from tidehub.system.files import PRIVATE_DIRECTORY, make_directory

CAPACITY = 2**20
"""Bytes that a program may write while nobody reads; the most that pipe(7) lets everybody ask for."""
DRAFT = ".new-"
ALIVE = "alive"
"""The file beside the pipes in which the writer leaves the clock at every round, four times a second."""
OLDEST = 3.0
"""Seconds since the last round of a writer that works, unless a disk holds it up."""
SETTLE_SECONDS = 1.0
MOST_HELD = 256
"""Of the 1,024 descriptors that a program may have where nobody raised that."""
_POLL = 0.02
_EMPTY_LOOKS = 3
_LONGEST_NAME = 255


@dataclass(frozen=True)
class Pipe:
    """One pipe by its file name. `log` is relative to the directory of all logs."""

    name: str
    owner: str
    log: PurePosixPath

    @classmethod
    def parse(cls, name: str) -> Pipe | None:
        """None for a name that is not a pipe's."""
        number, _, rest = name.partition(",")
        owner, _, log = rest.partition(",")
        path = PurePosixPath(unquote(log))
        if len(number) != 16 or not owner or not _is_log(path):
            return None
        return cls(name, unquote(owner), path)

    @classmethod
    def new(cls, owner: str, log: PurePosixPath) -> Pipe:
        """A fresh name. Raises `TidehubError` if no file name can hold it."""
        name = f"{secrets.token_hex(8)},{quote(owner, safe='')},{quote(str(log), safe='')}"
        if not owner or not _is_log(log) or len(name) + len(DRAFT) > _LONGEST_NAME:
            raise TidehubError(
                f"{str(log)!r} of {owner!r} cannot be the name of a log",
                expected="a short path to a .log file",
            )
        return cls(name, owner, log)


def _is_log(path: PurePosixPath) -> bool:
    return not path.is_absolute() and path.suffix == ".log" and not {"..", ".", ""} & set(path.parts)


def open_pipe(pipes: Path, logs: Path, log: Path, owner: str) -> int:
    """A new pipe for `log`, a file below `logs`, as a descriptor for the program's output. Raises `TidehubError`.

    It gets its final name, by which the writer finds it, when it already has a reader and a writer: this descriptor.
    """
    try:
        pipe = Pipe.new(owner, PurePosixPath(log.relative_to(logs)))
    except ValueError as error:
        raise TidehubError(f"{log} is not below {logs}, where the logs are") from error
    make_directory(pipes, PRIVATE_DIRECTORY)
    draft = pipes / f"{DRAFT}{pipe.name}"
    try:
        os.mkfifo(draft, 0o600)
        descriptor = os.open(draft, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.fchmod(descriptor, 0o600)
            # More than others of this uid may have together is refused (pipe(7)); the kernel's usual size works too.
            with contextlib.suppress(OSError):
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, CAPACITY)
            os.set_blocking(descriptor, True)
            draft.rename(pipes / pipe.name)
        except BaseException:
            os.close(descriptor)
            raise
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise TidehubError(
            f"cannot make a pipe for the log {log.name}: {error.strerror}", where=Place(str(pipes))
        ) from error
    return descriptor


def open_reader(path: Path) -> int | None:
    """A descriptor that reads a pipe without waiting; None if there is no pipe of ours by that name."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    found = os.fstat(descriptor)
    if not stat.S_ISFIFO(found.st_mode) or found.st_uid != os.geteuid():
        os.close(descriptor)
        return None
    return descriptor


class HeldPipes:
    """Read ends of pipes, held until the writer has emptied and removed them.

    A pipe that nobody has open loses what is in it: without this, a program that ends before the writer came to open
    its pipe would have said nothing. Holding costs a descriptor for each running program.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[int] = []

    def hold(self, descriptor: int) -> None:
        """Hold the pipe of this descriptor, and let go of those that are gone or too many."""
        # A new open, for reading only: another writer would keep the pipe from ever ending. No program fails for this.
        try:
            reader = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return
        with self._lock:
            held = [*self._held, reader]
            self._held = [one for one in held[-MOST_HELD:] if os.fstat(one).st_nlink]
            gone = set(held) - set(self._held)
        for one in gone:
            os.close(one)


def settle(pipes: Path, logs: Path, log: Path, seconds: float = SETTLE_SECONDS) -> None:
    """Wait until what has been written to `log`'s pipes is in the file, at most `seconds`.

    The pipe of an ended program is gone when all of it is written; that of a running one is empty, and stays so
    for the moment in which the writer may hold the last of it.
    """
    deadline, empty = time.monotonic() + seconds, 0
    while empty < _EMPTY_LOOKS and time.monotonic() < deadline:
        names = _of(pipes, logs, log)
        if not names:
            return
        empty = 0 if any(_unread(pipes / name) for name in names) else empty + 1
        time.sleep(_POLL)


def _of(pipes: Path, logs: Path, log: Path) -> list[str]:
    try:
        names = os.listdir(pipes)  # noqa: PTH208 - names, not paths
    except OSError:
        return []
    found = [pipe for name in names if (pipe := Pipe.parse(name)) is not None]
    return [pipe.name for pipe in found if logs / pipe.log == log]


def _unread(path: Path) -> int:
    """Bytes in a pipe that nobody has read yet."""
    descriptor = open_reader(path)
    if descriptor is None:
        return 0
    try:
        return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))[0])
    finally:
        os.close(descriptor)


def goes_round(pipes: Path) -> Check:
    """The readiness question for the part `logs`."""

    async def check() -> Ready:
        try:
            age = time.monotonic() - float((pipes / ALIVE).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return Ready(False, "it has not begun to read")
        # The clock counts from boot (CLOCK_MONOTONIC), so an older boot's may lie in the future.
        fresh = 0 <= age < OLDEST
        return Ready(fresh, "" if fresh else f"its last round was {age:.0f} s ago")

    return check
