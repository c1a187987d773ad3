"""Deleting what users made: renamed away at once, removed later by a process that nobody waits for.

How large or deep a user's tree is must not decide how long a server takes to start or the platform to stop. `throw`
takes the time of one rename. What it throws lies in a directory that only we can enter, on the same file system,
until the sweeper (`sweeper.py`) has emptied it; after a crash, the next `sweep` goes on.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import subprocess
import sys
import threading
from pathlib import Path

from tidehub.errors import Place, TidehubError

from .directories import DRAFT, PRIVATE, opened
from .processes import interpreter_environment

NAME = ".trash"
SWEEPER = Path(__file__).with_name("sweeper.py")

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_lock = threading.Lock()
_sweepers: list[subprocess.Popen[bytes]] = []


def beside(path: Path) -> Path:
    """The trash for `path`: in the directory that holds it, so a rename reaches it."""
    return path.parent / NAME


def throw(path: Path, trash: Path | None = None) -> bool:
    """Move `path` into `trash` (default: the one beside it) at once, whatever it is; False if nothing is there.

    The directory that holds it must be one that only we can write. Raises `TidehubError`. Call `sweep` afterwards.
    """
    if not os.path.lexists(path):
        return False
    with opened(path.parent) as parent:
        return throw_from(parent, path.name, beside(path) if trash is None else trash)


def throw_from(parent: int, name: str, trash: Path) -> bool:
    """`throw` for who has the directory open already (see `directories.opened`)."""
    try:
        bin_ = _opened_trash(trash)
        try:
            return _rename(parent, name, bin_)
        finally:
            os.close(bin_)
    except OSError as error:
        raise TidehubError(
            f"{name!r} cannot be moved away: {os.strerror(error.errno or 0)}",
            where=Place(str(trash)),
            expected="a directory of ours on the same file system",
        ) from error


def throw_drafts(directory: Path) -> None:
    """Throw away drafts that a crash left in `directory`. Those that are being made are under its lock meanwhile."""
    with opened(directory) as parent:
        for name in os.listdir(parent):  # noqa: PTH208 - a descriptor
            if name.startswith(DRAFT):
                throw_from(parent, name, directory / NAME)


def sweep(*trashes: Path) -> None:
    """Have these directories emptied in the background. Takes a fork, waits for nothing, raises nothing.

    The sweeper is in a session of its own and lives on when this process ends.
    """
    for trash in trashes:
        with contextlib.suppress(OSError):
            descriptor = os.open(trash, _OPEN)
            try:
                if any(True for _ in os.scandir(descriptor)):
                    _start(descriptor)
            finally:
                os.close(descriptor)


def _start(trash: int) -> None:
    sweeper = subprocess.Popen(
        [sys.executable, "-I", "-S", str(SWEEPER), str(trash)],
        env=interpreter_environment(),
        cwd="/",
        stdin=subprocess.DEVNULL,
        pass_fds=(trash,),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with _lock:
        # Those that have ended are collected here; a supervisor collects what hub and gateway leave.
        _sweepers[:] = [one for one in (*_sweepers, sweeper) if one.poll() is None]


def _opened_trash(trash: Path) -> int:
    with contextlib.suppress(FileExistsError):
        trash.mkdir(PRIVATE)
    descriptor = os.open(trash, _OPEN)
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid():
        os.close(descriptor)
        raise PermissionError(1, "not ours")
    if stat.S_IMODE(found.st_mode) != PRIVATE:
        os.fchmod(descriptor, PRIVATE)
    return descriptor


def _rename(parent: int, name: str, trash: int) -> bool:
    fresh = secrets.token_hex(8)
    try:
        os.rename(name, fresh, src_dir_fd=parent, dst_dir_fd=trash)
    except FileNotFoundError:
        return False
    except PermissionError:
        # Not as root: moving a directory writes into it, which a program in a sandbox may have forbidden us.
        seen = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            Path(f"/proc/self/fd/{seen}").chmod(PRIVATE)
        finally:
            os.close(seen)
        os.rename(name, fresh, src_dir_fd=parent, dst_dir_fd=trash)
    return True
