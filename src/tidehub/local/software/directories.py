"""Versioned directories that are complete or not there: locks between processes, modes, completion markers, repair.

A virtual environment knows its own path, so it is built where it stays. When all is in place the modes are set, the
files are listed with their sizes and checksums, the file system is told to write, and only then `complete.json` says
so: a power cut leaves either a directory without a marker or one whose files are whole. What was damaged later is
found by the list and made anew.
"""

from __future__ import annotations

import contextlib
import csv
import ctypes
import errno
import fcntl
import json
import os
import shutil
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.local.software.layout import (
    CHECKED,
    MANIFEST,
    MARKER,
    OPEN_DIRECTORY,
    OPEN_FILE,
    PRIVATE_DIRECTORY,
    PRIVATE_FILE,
    checked_in,
    is_complete,
    open_mode,
    ours,
    this_boot,
)
from tidehub.local.software.progress import Progress
from tidehub.system.files import make_parents, replace

_NOT_LISTED = {MARKER, MANIFEST, CHECKED}


def prepare_root(root: Path) -> None:
    """Make the software root, readable by everyone, and refuse one that others could change.

    Raises `TidehubError` when it cannot be made, or belongs to someone else, or others may write to it.
    """
    try:
        make_folder(root)
    except OSError as error:
        raise TidehubError(
            f"the software directory {root} cannot be created: {error.strerror}",
            fix="make it writable for you, or name another one with TIDEHUB_SOFTWARE=DIR",
        ) from error
    info = root.stat()
    if info.st_uid not in (os.geteuid(), 0) or info.st_mode & stat.S_IWOTH:
        raise TidehubError(
            f"the software directory {root} can be changed by other users (owner {info.st_uid}, "
            f"mode {stat.S_IMODE(info.st_mode):04o}), so what lies there cannot be trusted",
            fix="name a directory of your own with TIDEHUB_SOFTWARE=DIR",
        )


def make_folder(path: Path, mode: int = OPEN_DIRECTORY) -> Path:
    """Make `path` with exactly `mode` and its missing parents open to all, whatever the umask. Raises `OSError`.

    What is there already keeps its mode.
    """
    make_parents(path)
    try:
        path.mkdir(mode=PRIVATE_DIRECTORY)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        set_mode(path, mode)
    return path


def set_mode(path: Path, mode: int) -> None:
    """Give the file or directory `path` exactly `mode`, unless it is a symbolic link. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:
            os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def facts(directory: Path) -> dict[str, str]:
    """What was noted when `directory` was completed; empty where the note cannot be read."""
    try:
        noted = json.loads((directory / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in noted.items()} if isinstance(noted, dict) else {}


def open_lock(root: Path, name: str) -> int:
    """A descriptor of the file `name` to lock. Raises `OSError`.

    Private, because who can open a file can also lock it and keep everybody waiting.
    """
    directory = make_folder(root / "locks", PRIVATE_DIRECTORY)
    if ours(directory):
        set_mode(directory, PRIVATE_DIRECTORY)
    return os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE)


@contextmanager
def locked(root: Path, name: str, progress: Progress) -> Iterator[None]:
    """Hold the lock `name` of this software root; one process waits for another, whatever its fate."""
    handle = open_lock(root, name)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.step(
                f"Waiting for another tidehub that is setting up the same software ({name})", counted=False
            )
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def build_once(
    root: Path,
    directory: Path,
    build: Callable[[Path], Mapping[str, str]],
    *,
    progress: Progress,
    usable: Callable[[Path], bool] = lambda directory: True,
    damaged: Callable[[], None] = lambda: None,
) -> Path:
    """Return `directory`, built by `build` (which returns the facts to note) unless it is already complete,
    whole and `usable`. `damaged` is told before one whose files have changed is made anew.

    Raises what `build` raises, with nothing half-made that a later call would use; a full disk as
    `TidehubError`.
    """
    if is_complete(directory) and usable(directory):
        fault = damage_of(directory)
        if fault is None:
            return directory
        if not ours(directory):
            raise TidehubError(
                f"The software in {directory} is damaged: {fault}",
                fix=f"have uid {directory.stat().st_uid}, who made it, run the same command, or name a directory of "
                "your own with TIDEHUB_SOFTWARE=DIR",
            )
    prepare_root(root)
    try:
        with locked(root, f"{directory.parent.name}-{directory.name}", progress):
            if is_complete(directory) and usable(directory):
                fault = damage_of(directory)
                if fault is None:
                    return directory
                progress.step(f"Reinstalling {directory}, because {fault}", counted=False)
                damaged()
            remove(directory)
            make_folder(directory.parent)
            noted = build(directory)
            complete(directory, noted)
    except OSError as error:
        raise from_os_error(error, root) from error
    return directory


def complete(directory: Path, noted: Mapping[str, str]) -> None:
    """Set the modes, list the files, have all of it written to the disk, then mark `directory` complete."""
    make_readable(directory)
    write_text(directory / MANIFEST, _manifest(directory))
    _note_checked(directory, _marks(directory))
    sync(directory)
    write_text(directory / MARKER, json.dumps(dict(noted), indent=1) + "\n")


def damage_of(directory: Path) -> str | None:
    """What is wrong with the files of the complete `directory`, in words, as far as their sizes tell; None when
    nothing is. Mends its modes, where this user may.

    Files are read again only where something has failed since (`suspect`). Their sizes are compared once in each boot,
    and whenever a file came or went: that is what a power cut and a hand leave behind.
    """
    if ours(directory):
        mend_modes(directory)
        if not (directory / MANIFEST).exists():
            return _adopt(directory)
    if _none_came_or_went(directory):
        return None
    marks = _marks(directory)
    fault = damage(directory, thoroughly=ours(directory) and checked_in(directory) is None)
    if fault is None:
        _note_checked(directory, marks)
    return fault


def mend_modes(directory: Path) -> None:
    """Open a tree that was made under a narrow umask, or that others may change, together with what leads to it.

    Looks at the top only: what was made under one umask is the same all through.
    """
    tops = [directory, *(directory / name for name in ("bin", "lib", "node_modules", MARKER))]
    for place in (directory.parent.parent, directory.parent):
        if ours(place) and open_mode(place.stat().st_mode) != place.stat().st_mode:
            set_mode(place, stat.S_IMODE(open_mode(place.stat().st_mode)))
    found = [place.stat().st_mode for place in tops if place.exists()]
    if any(open_mode(mode) != mode for mode in found):
        make_readable(directory)


def _adopt(directory: Path) -> str | None:
    """List the files of a directory that an older tidehub completed, if what their packages record agrees with them.

    Servers may be running from it, so it is not made anew without a reason. Sizes as in "Recording installed projects"
    of the packaging specifications; what is missing was left out on purpose.
    """
    for record in (
        *directory.glob("lib/*/site-packages/*.dist-info/RECORD"),
        *directory.glob("*.dist-info/RECORD"),
    ):
        with record.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            for row in csv.reader(stream):
                path = f"{record.parent.parent}{os.sep}{row[0]}"
                with contextlib.suppress(FileNotFoundError):
                    if row[2:] and row[2].isdigit() and os.lstat(path).st_size != int(row[2]):
                        return f"{path} does not have {row[2]} bytes"
    write_text(directory / MANIFEST, _manifest(directory))
    _note_checked(directory, _marks(directory))
    return None


def suspect(directory: Path) -> None:
    """Have every file of `directory` read and compared before it is used again: a program in it did not start."""
    with contextlib.suppress(OSError):
        (directory / CHECKED).unlink(missing_ok=True)


def _note_checked(directory: Path, marks: str) -> None:
    with contextlib.suppress(OSError):  # another user's, or a full disk: it is checked again next time
        write_text(directory / CHECKED, f"{this_boot()}\n{marks}")


def _none_came_or_went(directory: Path) -> bool:
    """Whether this is still the boot in which the files were found whole, and no file was made, removed or renamed
    since: that changes the time of its folder. Of 40,000 files it takes a tenth of the time that their sizes take.
    """
    try:
        noted = (directory / CHECKED).read_text(encoding="utf-8", errors="surrogateescape")
        boot, *marks = noted.splitlines()
        base = f"{directory}{os.sep}"
        return (
            boot == this_boot()
            and bool(marks)
            and all(mark == _mark(base + name) for mark, _, name in (line.partition(" ") for line in marks))
        )
    except (OSError, ValueError):
        return False


def _marks(directory: Path) -> str:
    """A line for every folder, and for every file of ours in `directory` itself, whose own time our notes change."""
    top = str(directory)
    lines = []
    for folder, _, files in os.walk(top):
        inside = files if folder == top else [""]
        for name in (os.path.relpath(f"{folder}{os.sep}{one}", top) for one in inside):
            if name not in (MARKER, CHECKED) and "\n" not in name:
                lines.append(f"{_mark(f'{top}{os.sep}{name}')} {name}\n")
    return "".join(lines)


def _mark(path: str) -> str:
    info = os.lstat(path)
    return str(info.st_mtime_ns if stat.S_ISDIR(info.st_mode) else info.st_size)


def damage(directory: Path, *, thoroughly: bool) -> str | None:
    """What is wrong with the files of a completed directory, in words; None when nothing is.

    By their sizes (0.1 s for 10,000 files), `thoroughly` also by their checksums (seconds). Files that came later
    do not count.
    """
    try:
        lines = (directory / MANIFEST).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return f"{directory / MANIFEST} cannot be read"
    if not lines or lines[-1] != _END:
        return f"{directory / MANIFEST} is not complete"
    base = f"{directory}{os.sep}"
    for line in lines[:-1]:
        checksum, size, name = line.split(" ", 2)
        path = base + name
        try:
            info = os.lstat(path)
            if info.st_size != int(size) or not stat.S_ISREG(info.st_mode):
                return f"{path} has {info.st_size} bytes instead of {size}"
            if thoroughly and _checksum(path) != checksum:
                return f"{path} does not hold what was installed"
        except FileNotFoundError:
            return f"{path} is missing"
        except OSError as error:
            return f"{path} cannot be read ({error.strerror})"
    return None


_END = "end"


def _manifest(directory: Path) -> str:
    base = len(f"{directory}{os.sep}")
    lines = []
    for folder, folders, files in os.walk(directory):
        folders.sort()
        for name in sorted(files):
            path = f"{folder}{os.sep}{name}"
            info = os.lstat(path)
            if stat.S_ISREG(info.st_mode) and path[base:] not in _NOT_LISTED and "\n" not in path:
                lines.append(f"{_checksum(path)} {info.st_size} {path[base:]}")
    return "\n".join([*lines, _END]) + "\n"


def _checksum(path: str) -> str:
    total = 0
    with open(path, "rb", buffering=0) as stream:  # noqa: PTH123  # 20,000 files: plain strings are quicker
        while piece := stream.read(2**20):
            total = zlib.crc32(piece, total)
    return f"{total:08x}"


def sync(directory: Path) -> None:
    """Return when all that was written to the file system of `directory` is on the disk (syncfs(2)).

    Raises `OSError` when the disk did not take it. Only Linux has the call; elsewhere all disks are written (sync(2)).
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None:
            os.sync()
        elif syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(directory))
    finally:
        os.close(descriptor)


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


def write_text(path: Path, text: str, mode: int = OPEN_FILE) -> None:
    """Write a file whole or not at all, on the disk before it is visible, with exactly `mode`."""
    replace(path, text.encode("utf-8", "surrogateescape"), mode=mode)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def switch(link: Path, target: Path) -> None:
    """Let the symbolic link `link` name `target`, in one step."""
    make_folder(link.parent)
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
            _open_mode(f"{folder}{os.sep}{name}")  # 20,000 files: plain strings are quicker


def _open_mode(path: str) -> None:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return
    wanted = open_mode(mode)
    if wanted != mode:
        os.chmod(path, stat.S_IMODE(wanted))  # noqa: PTH101
