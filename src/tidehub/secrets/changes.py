"""Changing the secrets file: making what is missing, new values, values that somebody brings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidehub import program
from tidehub.errors import Place, UsageError
from tidehub.secrets import private_file
from tidehub.secrets.declared import Declared, Kept, find
from tidehub.secrets.encrypted import Encrypted, encrypted_files
from tidehub.secrets.git import ensure_ignored
from tidehub.secrets.placeholders import is_placeholder
from tidehub.secrets.secret import Secret
from tidehub.secrets.site_secrets import SecretsError
from tidehub.secrets.sources import Found, Resolved, resolve
from tidehub.secrets.store import MOST_OLD, Stored, beside, parse
from tidehub.secrets.writing import write_encrypted, write_plain


@dataclass(frozen=True)
class Created:
    """What `create` did. `to_give` are names that somebody else issues; a placeholder stands for each."""

    file: Path
    made: tuple[str, ...]
    to_give: tuple[str, ...]
    gitignore: Path | None

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "file": str(self.file),
            "made": list(self.made),
            "to_give": list(self.to_give),
            "gitignore": str(self.gitignore) if self.gitignore else None,
        }


@dataclass(frozen=True)
class Rotated:
    """A new value and where it is."""

    declared: Declared
    place: str
    old_values: int
    """Old values that still decrypt."""


def create(site_file: Path, wanted: Iterable[Declared], environ: Mapping[str, str] = os.environ) -> Created:
    """Make what is missing of the wanted secrets; what is there stays. Of two processes at once, one makes.

    Raises `SecretsError` when what is there cannot be used, `TidehubError` when the file cannot be written.
    """
    path = beside(site_file)
    with private_file.alone(site_file.absolute().parent):
        resolved = resolve(site_file, environ)
        if resolved.problems:
            raise SecretsError(resolved.problems)
        missing = [one for one in wanted if one.name not in resolved.found]
        made = {one.name: [Secret(one.shape.make())] for one in missing if one.shape.make}
        give = {one.name: [Secret(f"<{one.name.upper()}>")] for one in missing if one.given}
        gitignore: Path | None = None
        if missing:
            target = _encrypted_target(site_file)
            if target:
                path = target.path
                write_encrypted(
                    target, {**give, **made}, title=site_file.name, dated=list(made), environ=environ
                )
            else:
                gitignore = write_plain(path, {**give, **made}, title=site_file.name, dated=list(made))
        if path.exists():
            gitignore = gitignore or ensure_ignored(path, later=True)
        awaited = [one.name for one in wanted if one.given and _awaits(one.name, resolved, give)]
    return Created(path, tuple(made), tuple(awaited), gitignore)


def write(
    site_file: Path,
    values: Mapping[str, str | Sequence[str]],
    *,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    replace: bool = False,
) -> Path:
    """Write known values into the secrets file, as an import finds them; `overrides` are chart values by chart.

    Raises `UsageError` for a name or form that is not known, and for a value that is there already and differs,
    unless `replace`.
    """
    path = beside(site_file)
    kept = {name: _brought(name, value) for name, value in values.items()}
    with private_file.alone(site_file.absolute().parent):
        stored = _stored(path)
        different = [
            name
            for name, secrets in kept.items()
            if name in stored.entries
            and stored.entries[name].values
            and stored.entries[name].values != tuple(secrets)
        ]
        if different and not replace:
            raise UsageError(
                f"the secrets file has other values already: {', '.join(different)}",
                where=Place(str(path)),
                fix="remove them there, or keep them and leave these out",
            )
        new = {name: one for name, one in kept.items() if name in different or not _has(stored, name)}
        write_plain(path, new, title=site_file.name, overrides=overrides)
    return path


def rotate(
    site_file: Path,
    name: str,
    environ: Mapping[str, str] = os.environ,
    *,
    accept: str | None = None,
    forget_old: bool = False,
) -> Rotated:
    """A new value for one secret. Old keys stay behind it where they still decrypt, unless `forget_old`.

    Raises `UsageError` when the value comes from elsewhere, somebody else issues it, or its cost was not accepted.
    """
    declared = find(name, Kept.SITE)
    named = () if site_file == Path("tidehub.yaml") else (site_file,)
    again = program.command("secrets", "rotate", name, *named)
    require_accepted(declared, accept, again, forget_old=forget_old)
    path = beside(site_file)
    with private_file.alone(site_file.absolute().parent):
        resolved = resolve(site_file, environ)
        if resolved.problems:
            raise SecretsError(resolved.problems)
        found = resolved.found.get(name)
        _require_ours(declared, found, path)
        assert declared.shape.make is not None
        old = found.values if found and declared.rotation.keeps_old and not found.is_placeholder else ()
        old = () if forget_old else old[:MOST_OLD]
        new = {name: [Secret(declared.shape.make()), *old]}
        encrypted = next(
            (one for one in encrypted_files(site_file) if found and one.kind == found.kind), None
        )
        if encrypted:
            path = encrypted.path
            write_encrypted(encrypted, new, title=site_file.name, dated=[name], environ=environ)
        else:
            write_plain(path, new, title=site_file.name, dated=[name])
    return Rotated(declared, str(path), len(old))


def require_accepted(declared: Declared, accept: str | None, again: str, *, forget_old: bool = False) -> None:
    """Raise `UsageError` unless the cost of a rotation was named. `again` is the command without it."""
    rotation = declared.rotation
    if forget_old and not rotation.keeps_old:
        raise UsageError(f"{declared.name} keeps no old values", fix="leave --forget-old out")
    if rotation.cost == accept:
        return
    if rotation.cost is None:
        raise UsageError(f"rotating {declared.name} needs no --accept", fix="leave --accept out")
    raise UsageError(
        f"rotating {declared.name} has consequences: {rotation.effect}",
        expected=f"--accept {rotation.cost}",
        fix=f"if that may happen now: {again} --accept {rotation.cost}",
    )


def _require_ours(declared: Declared, found: Found | None, path: Path) -> None:
    if declared.given:
        raise UsageError(
            f"{declared.name} is issued by somebody else: it {declared.purpose}",
            fix=f"have a new one made there, then write it to {found.place if found else path}",
        )
    if found is None:
        raise UsageError(
            f"{declared.name} does not exist yet",
            fix=f"make it with `{program.command('secrets', 'create')}`",
        )
    if found.kind not in ("file", "age", "sops") or found.elsewhere:
        raise UsageError(
            f"{declared.name} comes from {found.place}, which is not tidehub's to change",
            fix="change it there; a new value: openssl rand -hex 32",
        )


def _awaits(name: str, resolved: Resolved, give: Mapping[str, object]) -> bool:
    return name in give or (name in resolved.found and resolved.found[name].is_placeholder)


def _brought(name: str, value: str | Sequence[str]) -> list[Secret]:
    declared = find(name, Kept.SITE)
    texts = [value] if isinstance(value, str) else list(value)
    if not texts or not all(declared.shape.fits(text) or is_placeholder(text) for text in texts):
        raise UsageError(f"the value of {name} has the wrong form", expected=declared.shape.words)
    if len(texts) > 1 and not declared.rotation.keeps_old:
        raise UsageError(f"{name} takes one value")
    return [Secret(text) for text in texts]


def _has(stored: Stored, name: str) -> bool:
    return name in stored.entries and bool(stored.entries[name].values or stored.entries[name].file)


def _stored(path: Path) -> Stored:
    content = private_file.read(path, "the secrets file")
    stored = parse(content.data, str(path), path.parent) if content else Stored()
    if stored.problems:
        raise SecretsError(stored.problems)
    return stored


def _encrypted_target(site_file: Path) -> Encrypted | None:
    """The encrypted file, where the site has one and no plain file."""
    found = encrypted_files(site_file)
    return found[0] if found and not beside(site_file).exists() else None
