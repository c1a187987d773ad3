"""Versioned directories that are complete or not there: locks between processes, completion markers, atomic
links.

A virtual environment knows its own path, so it is built where it stays; `complete.json` is written last, and
what has none is never used and is removed by the next attempt.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.local.software.layout import MARKER, is_complete
from tidehub.local.software.progress import Progress


def prepare_root(root: Path) -> None:
    """Make the software root, readable by everyone as root, and refuse one that others could change.

    Raises `TidehubError` when it cannot be made, or belongs to someone else, or others may write to it.
    """
    try:
        before = os.umask(0o022)
        try:
            root.mkdir(parents=True, exist_ok=True)
        finally:
            os.umask(before)
    except OSError as error:
        raise TidehubError(
            f"The software directory {root} cannot be made: {error.strerror}",
            fix="make it writable for you, or name another one with TIDEHUB_SOFTWARE=DIR",
        ) from error
    info = root.stat()
    if info.st_uid not in (os.geteuid(), 0) or info.st_mode & stat.S_IWOTH:
        raise TidehubError(
            f"The software directory {root} can be changed by other users (owner {info.st_uid}, "
            f"mode {stat.S_IMODE(info.st_mode):04o}), so what lies there cannot be trusted",
            fix="name a directory of your own with TIDEHUB_SOFTWARE=DIR",
        )


def facts(directory: Path) -> dict[str, str]:
    """What was noted when `directory` was completed; empty where the note cannot be read."""
    try:
        noted = json.loads((directory / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in noted.items()} if isinstance(noted, dict) else {}


@contextmanager
def locked(root: Path, name: str, progress: Progress) -> Iterator[None]:
    """Hold the lock `name` of this software root; one process waits for another, whatever its fate."""
    directory = root / "locks"
    directory.mkdir(exist_ok=True)
    with (directory / name).open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.step(f"Waiting for another tidehub that sets up the same ({name})")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def build_once(
    root: Path,
    directory: Path,
    build: Callable[[Path], Mapping[str, str]],
    *,
    progress: Progress,
    usable: Callable[[Path], bool] = lambda directory: True,
) -> Path:
    """Return `directory`, built by `build` (which returns the facts to note) unless it is already complete
    and `usable`.

    Raises what `build` raises, with nothing half-made that a later call would use; a full disk as
    `TidehubError`.
    """
    if is_complete(directory) and usable(directory):
        return directory
    prepare_root(root)
    try:
        with locked(root, f"{directory.parent.name}-{directory.name}", progress):
            if is_complete(directory) and usable(directory):
                return directory
            remove(directory)
            directory.parent.mkdir(parents=True, exist_ok=True)
            noted = build(directory)
            if os.geteuid() == 0:
                make_readable(directory)
            write_text(directory / MARKER, json.dumps(dict(noted), indent=1) + "\n")
    except OSError as error:
        raise from_os_error(error, root) from error
    return directory


def from_os_error(error: OSError, root: Path) -> TidehubError:
    """The message for a file operation below the software root that failed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(root)
    return TidehubError(
        f"Setting up the software failed: {error.strerror}: {error.filename}",
        fix=f"make {root} writable for you, or name another directory with TIDEHUB_SOFTWARE=DIR",
    )


def disk_full(root: Path) -> TidehubError:
    """The message for a full disk under the software root."""
    free = shutil.disk_usage(root).free / 2**30
    return TidehubError(
        f"The disk that holds {root} is full ({free:.1f} GiB free)",
        expected="about 2 GiB for tidehub's own environment, the notebooks', Node and the downloads",
        fix="make room and run the same command again, or name another disk with TIDEHUB_SOFTWARE=DIR",
    )


def remove(directory: Path) -> None:
    """Remove a directory tree; its marker first, so that an interrupted removal leaves nothing that seems
    complete.
    """
    (directory / MARKER).unlink(missing_ok=True)
    if directory.exists():
        shutil.rmtree(directory)


def write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.chmod(mode)
    temporary.replace(path)


def switch(link: Path, target: Path) -> None:
    """Let the symbolic link `link` name `target`, in one step."""
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, link.parent))
    temporary.replace(link)


def make_readable(directory: Path) -> None:
    """Let every user read the tree below `directory` and run what its owner can run, and only its owner
    change it.
    """
    for folder, _, files in os.walk(directory):
        _open_mode(folder)
        for name in files:
            _open_mode(os.path.join(folder, name))  # noqa: PTH118  # 20,000 files: plain strings are quicker


def _open_mode(path: str) -> None:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return
    wanted = (mode | 0o044 | (0o011 if mode & 0o100 else 0)) & ~0o022
    if wanted != mode:
        os.chmod(path, stat.S_IMODE(wanted))  # noqa: PTH101
