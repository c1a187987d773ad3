"""The site file and its secrets on their way out of a backup."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tidehub.backup.container import Kept
from tidehub.errors import TidehubError
from tidehub.system.files import os_fault

SITE = "site/"
"""Where they lie in a backup, below `files/`."""


def site_files(files: Mapping[str, Kept], into: Path | None) -> dict[Path, Kept]:
    """What is to be written into the directory `into`, which may have some of it already.

    Raises `TidehubError` for a file there that says something else: nothing is overwritten.
    """
    found: dict[Path, Kept] = {}
    if into is not None and into.exists() and not into.is_dir():
        raise TidehubError(f"{into} is not a directory", fix="name another one with --site-into")
    for name, kept in files.items():
        if into is None or not name.startswith(SITE):
            continue
        path = into / Path(name).name
        if not path.exists():
            found[path] = kept
        elif path.read_bytes() != kept.content:
            raise TidehubError(
                f"{path} differs from the one in the backup, and nothing is overwritten",
                fix="move it away, or name another directory with --site-into",
            )
    return found


def put_site_files(files: Mapping[Path, Kept]) -> None:
    """Writes each, with its mode, and the directory where there is none. Raises `TidehubError`."""
    for path, kept in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise os_fault(error, path.parent, "make") from error
        write_new(path, kept)


def write_new(path: Path, kept: Kept) -> None:
    """A file that was not there before, with the mode it had. Raises `TidehubError`."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, kept.mode & 0o700)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, kept.mode & 0o755)
            file.write(kept.content)
    except OSError as error:
        raise os_fault(error, path, "write") from error
