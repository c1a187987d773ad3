"""The site as commands are given it: a file, values from the environment, values from options."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidehub.errors import UsageError

if TYPE_CHECKING:
    from tidehub.site.load import Loaded

DEFAULT_FILE = Path("tidehub.yaml")

ParsedSettings = tuple[tuple[str, Any], ...]


def settings_of(given: Sequence[str] | None) -> ParsedSettings:
    """`--set KEY=VALUE`, each value read as YAML. Raises `UsageError`."""
    if not given:
        return ()
    from tidehub.site.load import value_of

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
    from tidehub.site.load import load

    if file is None and not DEFAULT_FILE.exists():
        raise UsageError(
            "there is no site file here",
            expected=f"{DEFAULT_FILE} in {Path.cwd()}",
            fix="name the file, or write one with: tidehub init",
        )
    return load(file or DEFAULT_FILE, overrides=settings, environ=os.environ)


def load_site_or_builtin(file: Path | None, settings: ParsedSettings = ()) -> Loaded:
    """The site of `up`: the file, or the built-in site without one. Raises `UsageError`."""
    from tidehub.site.load import load, load_preset

    if file is None:
        return load_preset("laptop", overrides=settings, environ=os.environ)
    return load(file, overrides=settings, environ=os.environ)
