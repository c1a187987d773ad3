"""The files of an import: values are read with bounds, a site and its secrets are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets as randomness
import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tidehub.errors import Place, TidehubError, UsageError
from tidehub.importing.build import Imported
from tidehub.importing.values_yaml import ValuesError
from tidehub.secrets import private_file
from tidehub.secrets.editing import edited
from tidehub.secrets.git import ensure_ignored, refuse_tracked
from tidehub.secrets.secret import Secret
from tidehub.secrets.store import beside
from tidehub.site.problems import Problem
from tidehub.site.reading.files import read_at_most

LARGEST = 5 * 2**20
"""Bytes of one values file."""
SITE_FILE = "tidehub.yaml"


def read_texts(paths: Sequence[Path]) -> list[tuple[str, str]]:
    """Name and text of each file. Raises `ValuesError` with everything that cannot be read."""
    texts: list[tuple[str, str]] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            texts.append((_shown(path), _text_of(path)))
        except ValuesError as error:
            problems += error.problems
    if problems:
        raise ValuesError(problems)
    return texts


def _shown(path: Path) -> str:
    return "".join(character if character.isprintable() else "?" for character in str(path))


def _text_of(path: Path) -> str:
    def refuse(what: str, fix: str | None = None, line: int = 0, column: int = 0) -> ValuesError:
        return ValuesError([Problem(what, where=Place(_shown(path), line, column), fix=fix)])

    try:
        # Not blocking: opening a named pipe by mistake must not hang.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise refuse("the file does not exist") from None
    except (OSError, ValueError) as error:
        raise refuse(f"cannot be read ({getattr(error, 'strerror', None) or 'not a file name'})") from None
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise refuse("this is a directory", "give the values files inside it")
        if not stat.S_ISREG(mode):
            raise refuse("this is not a regular file", "give a file with Helm values")
        content = read_at_most(handle, LARGEST + 1)
    except OSError as error:
        raise refuse(f"cannot be read ({error.strerror or error})") from None
    finally:
        os.close(handle)
    if len(content) > LARGEST:
        raise refuse("the file is larger than 5 MiB", "values files are far smaller: is it another file?")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise refuse("the file is UTF-16", "save it as UTF-8", 1, 1)
    if content.startswith((b"\x1f\x8b", b"PK\x03\x04")):
        raise refuse("this is an archive", "unpack it, and give the values files inside it")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        what = f"the byte 0x{content[error.start]:02x} is not UTF-8"
        raise refuse(what, "save the file as UTF-8", before.count(b"\n") + 1, column) from None


def refuse_existing(directory: Path, *, force: bool) -> None:
    """Raise `UsageError` when a file would be overwritten, or the place is not a directory; before anything is done."""
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory} is not a directory", fix="choose another one with --output DIR")
    site_file = directory / SITE_FILE
    for path in (site_file, beside(site_file)):
        if path.is_dir():
            raise UsageError(f"{path} is a directory", fix="move it away, or choose another --output DIR")
        if (path.exists() or path.is_symlink()) and not force:
            raise UsageError(
                f"{path} already exists",
                fix="write elsewhere with --output DIR, or replace it with --force",
            )


def write(directory: Path, site: str, imported: Imported) -> dict[str, str]:
    """Write the site file, and the secrets file when there are secrets. All or nothing. Returns what was written.

    Secrets that a file there holds already stay, unless the values state them. Raises `TidehubError`.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TidehubError(f"cannot make {directory}: {error.strerror}") from None
    site_file = directory / SITE_FILE
    secrets_file = beside(site_file)
    written = {"site": str(site_file)}
    with private_file.alone(directory):
        before: private_file.Content | None = None
        if imported.secrets or imported.secret_overrides:
            refuse_tracked(secrets_file)
            before = private_file.read(secrets_file, "the secrets file")
            text = edited(
                before.data.decode("utf-8-sig", "replace") if before else None,
                {name: [Secret(value) for value in found.values] for name, found in imported.secrets.items()},
                title=SITE_FILE,
                now=datetime.now(UTC),
                overrides=imported.secret_overrides or None,
                dated=(),
            )
            written["secrets"] = str(secrets_file)
            ignored = ensure_ignored(secrets_file)
            if ignored is not None:
                written["gitignore"] = str(ignored)
            private_file.replace(
                secrets_file, text, uid=before.uid if before else None, gid=before.gid if before else None
            )
        try:
            _replace(site_file, site)
        except BaseException:
            if "secrets" in written:
                _bring_back(secrets_file, before)
            raise
    return written


def _bring_back(secrets_file: Path, before: private_file.Content | None) -> None:
    with contextlib.suppress(OSError, TidehubError):
        if before is None:
            secrets_file.unlink()
        else:
            text = before.data.decode("utf-8", "surrogateescape")
            private_file.replace(secrets_file, text, uid=before.uid, gid=before.gid)


def _replace(path: Path, text: str) -> None:
    target = path.resolve() if path.is_symlink() else path
    temporary = target.with_name(f".{target.name}.{randomness.token_hex(4)}.part")
    try:
        try:
            with temporary.open("x", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise TidehubError(f"cannot write {path}: {error.strerror}; nothing was half-written") from None
