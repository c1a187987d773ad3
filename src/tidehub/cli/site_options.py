"""The site as commands are given it: a file, values from the environment, values from options."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidehub.errors import UsageError

if TYPE_CHECKING:
    from tidehub.errors import TidehubError
    from tidehub.site.checked import Checked
    from tidehub.site.problems import Problem
    from tidehub.site.reading.load import Loaded

DEFAULT_FILE = Path("tidehub.yaml")


def file_here(file: Path | None) -> Path | None:
    """The site file of a command that can do without one: the one that was named, or else this directory's, if any."""
    return file or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)


ParsedSettings = tuple[tuple[str, Any], ...]


def settings_of(given: Sequence[str] | None) -> ParsedSettings:
    """`--set KEY=VALUE`, each value read as YAML. Raises `UsageError`."""
    if not given:
        return ()
    from tidehub.site.reading.load import value_of

    found = []
    for text in given:
        key, equals, written = text.partition("=")
        key = key.strip()
        if not equals or not key or any(not part for part in key.split(".")):
            raise UsageError(
                f"--set {text!r} does not name a key and a value",
                expected="KEY=VALUE, as in --set notebooks.memory.limit='8 GiB'",
            )
        value, faults = value_of(written, f"--set {key}")
        if faults:
            raise UsageError(
                f"--set {key}: {faults[0].what}",
                expected="a value as in the site file: 8 GiB, true, [openid, email]",
                fix=faults[0].fix,
            )
        found.append((key, value))
    return tuple(found)


def load_given(file: Path | None, settings: ParsedSettings = ()) -> Loaded:
    """The site of a command that works on a file, `tidehub.yaml` by default. Raises `UsageError`."""
    from tidehub.site.reading.load import load

    return load(file or DEFAULT_FILE, overrides=settings, environ=os.environ)


def check_given(file: Path | None, settings: ParsedSettings = ()) -> Checked:
    """The problems of a site file, and of the secrets beside it where there are any. Raises nothing for them."""
    from tidehub.site.checked import Checked
    from tidehub.site.problems import SiteError
    from tidehub.site.reading.load import load

    path = file or DEFAULT_FILE
    try:
        loaded = load(path, overrides=settings, environ=os.environ)
    except SiteError as error:
        return Checked(str(path), error.problems)
    return Checked(str(path), (*loaded.warnings, *_secrets_problems(path, loaded)))


def _secrets_problems(path: Path, loaded: Loaded) -> list[Problem]:
    """Nothing where there are no secrets yet: a site is also checked where they are not."""
    if not any(path.parent.glob(f"{path.stem}.secrets.*")):
        return []
    from tidehub.secrets.site_secrets import problems

    return problems(path, loaded.site)


def load_for_explaining(
    file: Path | None, settings: ParsedSettings = ()
) -> tuple[Loaded | None, TidehubError | None]:
    """The site, or why there is none: what a key means can be said all the same.

    Without a file, and none in this directory, it is the built-in site.
    """
    from tidehub.site.problems import SiteError

    try:
        return load_site_or_builtin(file_here(file), settings), None
    except SiteError as error:
        return None, error


def load_site_or_builtin(file: Path | None, settings: ParsedSettings = ()) -> Loaded:
    """The site of `up`: the file, or the built-in site without one. Raises `UsageError`."""
    from tidehub.site.reading.load import load, load_preset

    if file is None:
        return load_preset("laptop", overrides=settings, environ=os.environ)
    return load(file, overrides=settings, environ=os.environ)
