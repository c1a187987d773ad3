"""A folder of files, written whole or not at all, and only over one that this module wrote and nobody changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tidehub import program
from tidehub.errors import Place, TidehubError, UsageError

MARK = ".tidehub-render.json"
"""What says that a folder is ours: every file with its digest."""
_FORMAT = 1


@dataclass(frozen=True)
class FileText:
    """One file. What is private is readable by its owner alone, and so is its directory."""

    content: bytes
    private: bool = False


def write_folder(target: Path, files: Mapping[str, FileText]) -> None:
    """Puts the files (by path below it) into `target`, in the place of an earlier rendering.

    Raises `UsageError` where something else is there, or an earlier rendering that somebody changed since; then, and
    after any other failure, everything is as before.
    """
    target = Path(os.path.abspath(target))  # noqa: PTH100 - `resolve` would follow a link that is the target
    check_target(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise _failed(target, error) from None
    try:
        _fill(new, files)
        _put_in_place(new, target)
    except OSError as error:
        raise _failed(target, error) from None
    finally:
        shutil.rmtree(new, ignore_errors=True)


def check_target(target: Path) -> None:
    """Whether `write_folder` may write there. Raises `UsageError` with what prevents it."""
    if not target.exists() and not target.is_symlink():
        return
    if target.is_symlink() or not target.is_dir():
        raise _in_the_way(target, "it exists and is not a folder")
    if not any(target.iterdir()):
        return
    written = _read_mark(target)
    if written is None:
        raise _in_the_way(target, f"it holds files that `{program.command('render')}` did not write")
    there = {
        str(PurePosixPath(*path.relative_to(target).parts))
        for path in target.rglob("*")
        if path.is_symlink() or not path.is_dir()
    } - {MARK}
    foreign = sorted(there - set(written))
    changed = sorted(name for name in there & set(written) if _digest_of(target / name) != written[name])
    if foreign or changed:
        names = [f"{name} is new" for name in foreign] + [f"{name} was changed" for name in changed]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise _in_the_way(target, f"somebody worked in it: {', '.join(names[:3])}{more}")


def _fill(new: Path, files: Mapping[str, FileText]) -> None:
    private = {PurePosixPath(name).parent for name, file in files.items() if file.private}
    for name, file in sorted(files.items()):
        path = new / name
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(file.content)
        path.chmod(0o600 if file.private else 0o644)
    mark = {
        "format": _FORMAT,
        "files": {name: hashlib.sha256(file.content).hexdigest() for name, file in sorted(files.items())},
    }
    (new / MARK).write_text(json.dumps(mark, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    # Digests of short secrets would tell them to whoever guesses.
    (new / MARK).chmod(0o600 if private else 0o644)
    for directory in sorted({path for path in new.rglob("*") if path.is_dir()}):
        directory.chmod(0o700 if PurePosixPath(directory.relative_to(new).as_posix()) in private else 0o755)
    new.chmod(0o755)


def _put_in_place(new: Path, target: Path) -> None:
    if not target.exists():
        new.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        kept = old / "old"
        target.rename(kept)
        try:
            new.rename(target)
        except BaseException:
            # Ctrl-C, too: whoever interrupts finds what was there.
            with contextlib.suppress(OSError):
                kept.rename(target)
            raise
    finally:
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)


def _read_mark(target: Path) -> dict[str, str] | None:
    try:
        read = json.loads((target / MARK).read_text(encoding="utf-8"))
        files = read["files"] if read["format"] == _FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {str(name): str(digest) for name, digest in files.items()} if isinstance(files, dict) else None


def _digest_of(path: Path) -> str | None:
    if path.is_symlink() or not path.is_file():
        return None
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _in_the_way(target: Path, what: str) -> UsageError:
    return UsageError(
        what,
        where=Place(str(target)),
        expected=f"no folder, an empty one, or one that `{program.command('render')}` wrote and nobody changed since",
        fix="name another folder with --output, or move this one away",
    )


def _failed(target: Path, error: OSError) -> TidehubError:
    return TidehubError(
        f"the folder cannot be written: {error.strerror or error}",
        where=Place(str(target)),
        fix="check the free space and the permission to write",
    )
