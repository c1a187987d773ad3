"""Files that only their owner reads: refused when others could read them. `system.files` writes them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tidehub.errors import Place, UsageError

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def make_private_directory(path: Path) -> None:
    """Make `path` with mode 0700, or check that it is private. Raises `UsageError` otherwise."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.stat().st_mode
    except OSError as error:
        raise UsageError(
            f"The identity provider cannot use its state directory: {error.strerror}.",
            where=Place(str(path)),
            expected="a directory that the provider's own user can make or write",
            fix="name another state_dir, or change its owner",
        ) from None
    if mode & OTHERS:
        raise UsageError(
            f"The identity provider's state directory is open to others (mode {stat.S_IMODE(mode):04o}).",
            where=Place(str(path)),
            expected="mode 0700",
            fix=f"chmod 700 {path}",
        )


def read_private(path: Path, what: str) -> str:
    """The text of `path`. Raises `UsageError` when it is missing, not UTF-8, or readable by others.

    `what` names the file's role in the message, as in "The configuration". A file of root's may be readable by the
    group of this process: so the supervisor hands over what this process may read and not change.
    """
    try:
        with path.open(encoding="utf-8") as file:
            found = os.fstat(file.fileno())
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"{what} cannot be read: {reason}.", where=Place(str(path))) from None
    mode = stat.S_IMODE(found.st_mode)
    handed = stat.S_IRGRP if found.st_uid == 0 != os.geteuid() and found.st_gid == os.getegid() else 0
    if mode & OTHERS & ~handed:
        raise UsageError(
            f"{what} can be read by other users (mode {mode:04o}).",
            where=Place(str(path)),
            expected="mode 0600",
            fix=f"chmod 600 {path}",
        )
    return text
