"""Words that a shell offers for an argument. Where they cannot be found there are none: a Tab says no errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tidehub.errors import TidehubError

Words = Callable[[Any, str], list[str]]


def _or_none(find: Callable[[Any], Iterable[str]]) -> Words:
    def words(ctx: Any, incomplete: str) -> list[str]:
        try:
            return [word for word in find(ctx) if word.startswith(incomplete)]
        except (TidehubError, OSError):
            return []

    return words


def _keys(ctx: Any) -> Iterable[str]:
    from tidehub.site.describe import all_keys

    return (key.name.replace("[]", "") for key in all_keys())


def _presets(ctx: Any) -> Iterable[str]:
    from tidehub.site.presets import NAMES

    return NAMES


def _parts(ctx: Any) -> Iterable[str]:
    from tidehub.local.logs.reading import log_files
    from tidehub.local.places import Places

    state = ctx.params.get("state")
    return log_files(Places.of(Path(state) if state else None))


def _secrets(ctx: Any) -> Iterable[str]:
    from tidehub.cli.site_options import load_given
    from tidehub.secrets.site_secrets import needed

    file = ctx.params.get("file")
    return [one.name for one in needed(load_given(Path(file) if file else None).site)]


keys = _or_none(_keys)
presets = _or_none(_presets)
parts = _or_none(_parts)
secrets = _or_none(_secrets)
