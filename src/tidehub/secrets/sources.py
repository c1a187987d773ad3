"""Where a site's secrets come from. The first of these that has a value gives it:

1. the environment: `TIDEHUB_SECRET_CLIENT_SECRET` (and `TIDEHUB_CLIENT_SECRET`, its older name);
2. systemd's credentials: `$CREDENTIALS_DIRECTORY/client_secret`;
3. a directory of files, as Docker and Kubernetes mount them: `$TIDEHUB_SECRETS_DIR/client_secret`;
4. the secrets file beside the site file: a value, or `{file: PATH}`;
5. an encrypted file beside it (`encrypted.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from tidehub.errors import Place, TidehubError
from tidehub.secrets import private_file
from tidehub.secrets.declared import Declared, Kept, kept_by, nearest
from tidehub.secrets.encrypted import decrypt, encrypted_files
from tidehub.secrets.git import refuse_tracked
from tidehub.secrets.placeholders import is_placeholder
from tidehub.secrets.redaction import known
from tidehub.secrets.secret import Secret
from tidehub.secrets.store import MOST_OLD, Entry, Overrides, Stored, beside, parse, texts
from tidehub.site.problems import Problem

Kind = Literal["environment", "systemd", "directory", "file", "age", "sops"]
PREFIX = "TIDEHUB_SECRET_"
OLDER_VARIABLE = "TIDEHUB_CLIENT_SECRET"
SYSTEMD = "CREDENTIALS_DIRECTORY"
"""systemd.exec(5): the directory of a service's credentials."""
DIRECTORY = "TIDEHUB_SECRETS_DIR"
_MOUNTED = (Path("/run/secrets"), Path("/var/run/secrets"))
"""Where container runtimes mount secrets: readable by all inside, and nobody else is inside."""


@dataclass(frozen=True)
class Found:
    """One secret from one source; values the newest first. `place` names the source in messages."""

    declared: Declared
    values: tuple[Secret, ...]
    kind: Kind
    place: str
    made: datetime | None = None
    unchanged_since: datetime | None = None
    """When the file that holds it was last changed: an unknown age is at least that."""
    where: Place | None = None
    elsewhere: bool = False
    """Whether the secrets file only names the file that holds it."""

    @property
    def value(self) -> Secret:
        return self.values[0]

    @property
    def is_placeholder(self) -> bool:
        return any(is_placeholder(value.reveal()) for value in self.values)


@dataclass
class Resolved:
    """What all sources give. `shadowed` is stated, but an earlier source has it too."""

    file: Path | None = None
    found: dict[str, Found] = field(default_factory=dict)
    shadowed: list[Found] = field(default_factory=list)
    overrides: Overrides = field(default_factory=dict, repr=False)
    problems: list[Problem] = field(default_factory=list)
    unread: bool = False
    """Whether a file that may hold more could not be read, so that nobody knows what is missing."""

    @property
    def placeholders(self) -> list[str]:
        return [name for name, found in self.found.items() if found.is_placeholder]

    def take(self, found: Found) -> None:
        known.add(found.values)
        if found.declared.name in self.found:
            self.shadowed.append(found)
        else:
            self.found[found.declared.name] = found


def resolve(
    site_file: Path | None, environ: Mapping[str, str], *, enough: Sequence[str] | None = None
) -> Resolved:
    """The secrets of a site from all sources. Raises nothing: what is wrong is in `problems`.

    `enough` names secrets: encrypted files are not decrypted once these are there.
    """
    resolved = Resolved(file=None if site_file is None else beside(site_file))
    declared = kept_by(Kept.SITE)
    _from_environment(resolved, declared, environ)
    _from_directory(resolved, declared, environ, SYSTEMD, "systemd")
    _from_directory(resolved, declared, environ, DIRECTORY, "directory")
    if site_file is not None:
        _from_file(resolved, beside(site_file), environ)
        if enough is None or not set(enough) <= set(resolved.found):
            _from_encrypted(resolved, site_file, environ)
    return resolved


def problem_of(error: TidehubError) -> Problem:
    """An error as one of several problems."""
    return Problem(error.what, where=error.where, expected=error.expected, fix=error.fix)


def _from_environment(resolved: Resolved, declared: Sequence[Declared], environ: Mapping[str, str]) -> None:
    by_variable = {one.variable: one for one in declared}
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        if variable not in by_variable:
            meant = nearest(variable.removeprefix(PREFIX), [one.name for one in declared])
            resolved.problems.append(
                Problem(
                    f"the variable {variable[:80]} names no secret",
                    expected=", ".join(by_variable),
                    fix=f"did you mean {PREFIX}{meant.upper()}?" if meant else None,
                )
            )
    for one in declared:
        variables = [one.variable, *([OLDER_VARIABLE] if one.name == "client_secret" else [])]
        for variable in variables:
            if text := environ.get(variable, "").strip():
                _take_text(resolved, one, text, "environment", f"the variable {variable}")


def _from_directory(
    resolved: Resolved, declared: Sequence[Declared], environ: Mapping[str, str], variable: str, kind: Kind
) -> None:
    given = environ.get(variable, "").strip()
    if not given:
        return
    directory = Path(given)
    if not directory.is_dir():
        if variable == DIRECTORY:
            problem = Problem(f"{variable} names no directory that can be read", where=Place(given))
            resolved.problems.append(problem)
        return
    for one in declared:
        _take_file(resolved, one, directory / one.name, kind, mounted=True)


def _from_file(resolved: Resolved, path: Path, environ: Mapping[str, str]) -> None:
    try:
        content = private_file.read(path, "the secrets file")
        if content is None:
            return
        refuse_tracked(path)
    except TidehubError as error:
        resolved.problems.append(problem_of(error))
        resolved.unread = True
        return
    stored = parse(content.data, str(path), path.absolute().parent)
    resolved.problems += stored.problems
    _take_stored(resolved, stored, "file", path.name, datetime.fromtimestamp(content.modified, UTC))


def _from_encrypted(resolved: Resolved, site_file: Path, environ: Mapping[str, str]) -> None:
    for one in encrypted_files(site_file):
        try:
            data = decrypt(one, environ)
            modified = one.path.stat().st_mtime
        except (TidehubError, OSError) as error:
            problem = problem_of(error) if isinstance(error, TidehubError) else Problem("the file is gone")
            resolved.problems.append(problem)
            resolved.unread = True
            continue
        stored = parse(data, f"{one.path} (decrypted)", one.path.absolute().parent)
        resolved.problems += stored.problems
        _take_stored(resolved, stored, one.kind, one.path.name, datetime.fromtimestamp(modified, UTC))


def _take_stored(resolved: Resolved, stored: Stored, kind: Kind, name: str, modified: datetime) -> None:
    resolved.unread = resolved.unread or bool(stored.problems and not stored.entries)
    for entry in stored.entries.values():
        if entry.file is not None:
            _take_file(resolved, entry.declared, entry.file, kind, mounted=False, entry=entry)
        elif entry.values:
            place = f"{name}:{entry.where.line}"
            resolved.take(Found(entry.declared, entry.values, kind, place, entry.made, modified, entry.where))
    if stored.overrides:
        known.add(texts(stored.overrides))
        resolved.overrides = {**stored.overrides, **resolved.overrides}


def _take_file(
    resolved: Resolved,
    declared: Declared,
    path: Path,
    kind: Kind,
    *,
    mounted: bool,
    entry: Entry | None = None,
) -> None:
    where = entry.where if entry else Place(str(path))
    try:
        open_to_others = mounted or any(path.is_relative_to(root) for root in _MOUNTED)
        content = private_file.read(path, f"the file with {declared.name}", open_to_others=open_to_others)
        text = content.data.decode("utf-8-sig").strip("\r\n") if content else ""
    except TidehubError as error:
        resolved.problems.append(problem_of(error))
        return
    except UnicodeDecodeError:
        what = f"the file with {declared.name} is not UTF-8 text"
        resolved.problems.append(Problem(what, (declared.name,), Place(str(path))))
        return
    if content is None:
        if not mounted:
            what = f"file {path} does not exist"
            resolved.problems.append(
                Problem(what, (declared.name,), where, expected="a file with the value alone")
            )
        return
    if not text:
        what = f"the file {path} is empty"
        resolved.problems.append(Problem(what, (declared.name,), where, expected=declared.shape.words))
        return
    modified = datetime.fromtimestamp(content.modified, UTC)
    _take_text(
        resolved, declared, text, kind, f"the file {path}", modified, Place(str(path)), entry is not None
    )


def _take_text(
    resolved: Resolved,
    declared: Declared,
    text: str,
    kind: Kind,
    place: str,
    modified: datetime | None = None,
    where: Place | None = None,
    elsewhere: bool = False,
) -> None:
    pieces = declared.pieces(text)
    wrong = [piece for piece in pieces if not (declared.shape.fits(piece) or is_placeholder(piece))]
    if wrong or not 1 <= len(pieces) <= MOST_OLD + 1:
        known.add([Secret(piece) for piece in pieces])
        what = f"the value in {place} ({len(text)} characters) has the wrong form"
        resolved.problems.append(Problem(what, (declared.name,), where, expected=declared.shape.words))
        return
    resolved.take(Found(declared, tuple(map(Secret, pieces)), kind, place, None, modified, where, elsewhere))
