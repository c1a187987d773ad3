"""A site file to start from, and its secrets. `tidehub init`."""

from __future__ import annotations

import os
import stat
import tempfile
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from tidehub.errors import Place, TidehubError, UsageError
from tidehub.site import presets

FILE_NAME = "tidehub.yaml"


@dataclass(frozen=True)
class Started:
    """What `start` wrote."""

    file: Path
    preset: str
    replaced: bool


def start(directory: Path, preset: str, *, force: bool = False) -> Started:
    """Write the site file of a preset into a directory, which is made if need be. All of it or nothing.

    Raises `UsageError` for an unknown preset and for a file that already exists, unless `force`; `TidehubError`
    when it cannot be written.
    """
    try:
        text = presets.text_of(preset)
    except KeyError:
        close = get_close_matches(preset, presets.NAMES, n=1)
        raise UsageError(
            f"preset {preset!r} does not exist",
            expected=f"one of {', '.join(presets.NAMES)}",
            fix=f"did you mean {close[0]}?" if close else None,
        ) from None
    path = directory / FILE_NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        there = _is_there(path)
        if there and not force:
            raise UsageError(
                f"{path} already exists",
                fix="edit it; or give another directory; or replace it with --force",
            )
        _write(path, text, replace=there)
    except OSError as error:
        place = Place(str(error.filename or path))
        raise TidehubError(
            f"the site file cannot be written: {error.strerror or error}", where=place
        ) from None
    return Started(path, preset, there)


def _is_there(path: Path) -> bool:
    """Whether something is there. Raises `UsageError` for what is not a regular file: it is not ours to replace."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode):
        kind = "a symbolic link" if stat.S_ISLNK(mode) else "not a regular file"
        raise UsageError(f"{path} is {kind}", fix="remove it, or give another directory")
    return True


def _write(path: Path, text: str, *, replace: bool) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    written = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            mask = os.umask(0)
            os.umask(mask)
            os.fchmod(file.fileno(), 0o666 & ~mask)
        if replace:
            written.replace(path)
        else:
            # Unlike a rename, a link never takes the place of a file that came meanwhile.
            path.hardlink_to(written)
    finally:
        written.unlink(missing_ok=True)
