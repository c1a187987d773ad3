"""Where software lies, what its directories are called, and whether one can be used as it stands.

The quick start of `./tidehub` needs no more than this, so the module imports almost nothing.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from tidehub.errors import TidehubError

MARKER = "complete.json"
"""Written last: what has none was never finished."""
MANIFEST = "manifest.txt"
"""Checksum, size and path of every file, as they were when the directory was completed."""
CHECKED = "checked"
"""The boot in which the files were last compared with the manifest, and what tells whether any came or went since."""

OPEN_DIRECTORY = 0o755
OPEN_FILE = 0o644
PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600


def default_root(environ: Mapping[str, str] = os.environ) -> Path:
    """`TIDEHUB_SOFTWARE`, or `/opt/tidehub` as root, or `$XDG_DATA_HOME/tidehub`.

    Raises `TidehubError` for a user without a home.
    """
    if chosen := environ.get("TIDEHUB_SOFTWARE"):
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/opt/tidehub")
    data = environ.get("XDG_DATA_HOME", "")
    if data.startswith("/"):
        return Path(data) / "tidehub"
    try:
        return Path.home() / ".local" / "share" / "tidehub"
    except RuntimeError as error:
        raise TidehubError(
            "this user has no home directory, where the software would go",
            fix="set HOME, or name a directory in TIDEHUB_SOFTWARE",
        ) from error


def digest(*parts: bytes) -> str:
    """Twelve hex digits that name contents; the order and the borders of the parts count."""
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()[:12]


def is_complete(directory: Path) -> bool:
    """Whether `directory` was built to its end."""
    return (directory / MARKER).is_file()


def runs(directory: Path) -> bool:
    """Whether the interpreter that the environment in `directory` links to is still on the machine."""
    return os.access(directory / "bin" / "python", os.X_OK)


def existing_python(folder: Path, key: str) -> Path | None:
    """The Python of the complete environment `key` in `folder`, on whichever version it was built; None
    without one.
    """
    try:
        found = sorted(entry for entry in folder.iterdir() if entry.name.startswith(f"{key}-py"))
    except OSError:
        return None
    for directory in found:
        if is_complete(directory) and runs(directory):
            return directory / "bin" / "python"
    return None


def this_boot() -> str:
    """The kernel's name for the time since it started; see random(4)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def checked_in(directory: Path) -> str | None:
    """The boot in which the files of `directory` were last found whole; None when they are under suspicion."""
    try:
        with (directory / CHECKED).open(encoding="utf-8", errors="surrogateescape") as stream:
            return stream.readline().strip()
    except OSError:
        return None


def ours(directory: Path) -> bool:
    """Whether this user made `directory`, and so may mend it."""
    try:
        return directory.stat().st_uid == os.geteuid()
    except OSError:
        return False


def open_to_all(places: Iterable[Path]) -> bool:
    """Whether every user may read (and enter or run) these, and only their owner may change them."""
    try:
        return all(open_mode(mode) == mode for mode in (place.stat().st_mode for place in places))
    except OSError:
        return False


def open_mode(mode: int) -> int:
    """`mode` with everybody's right to read, and to run or enter what its owner can, and without others' right to
    change it.
    """
    runs_too = stat.S_ISDIR(mode) or mode & stat.S_IXUSR
    return (mode | 0o444 | (0o111 if runs_too else 0)) & ~0o022
