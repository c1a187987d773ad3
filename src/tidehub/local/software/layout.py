"""Where software lies and what its directories are called.

The quick start of `./tidehub` needs no more than this, so the module imports almost nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from tidehub.errors import TidehubError

MARKER = "complete.json"


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
