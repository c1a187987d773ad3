"""The files of an import: values are read with bounds, a site and its secrets are written whole or not at all."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tidehub.errors import TidehubError, UsageError
from tidehub.importing.build import Imported
from tidehub.importing.values_yaml import ValuesError
from tidehub.secrets import private_file
from tidehub.secrets.editing import edited
from tidehub.secrets.git import ensure_ignored, refuse_tracked
from tidehub.secrets.secret import Secret
from tidehub.secrets.store import beside
from tidehub.site.problems import Problem
from tidehub.site.reading.files import TextFile, Unreadable, read_text
from tidehub.system import files

LARGEST = 5 * 2**20
"""Bytes of one values file."""
VALUES_FILE = TextFile(
    LARGEST,
    missing=None,
    directory="give the values files inside it",
    irregular="give a file with Helm values",
    too_large="values files are far smaller: is it another file?",
)
SITE_FILE = "tidehub.yaml"


def read_texts(paths: Sequence[Path]) -> list[tuple[str, str]]:
    """Name and text of each file. Raises `ValuesError` with everything that cannot be read."""
    texts: list[tuple[str, str]] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            texts.append((_shown(path), read_text(path, _shown(path), VALUES_FILE)))
        except Unreadable as error:
            problems.append(error.problem)
    if problems:
        raise ValuesError(problems)
    return texts


def _shown(path: Path) -> str:
    return "".join(character if character.isprintable() else "?" for character in str(path))


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
        if "secrets" in written and (later := ensure_ignored(secrets_file, later=True)) is not None:
            written["gitignore"] = str(secrets_file.parent / later.name)
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
    try:
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o644
        files.replace(target, text, mode=mode)
    except OSError as error:
        raise TidehubError(f"cannot write {path}: {error.strerror}; nothing was half-written") from None
