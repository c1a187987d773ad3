"""What one key means, has, and becomes; where its value was set. The data of `tidehub explain`, and its words. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tidehub.errors import UsageError
from tidehub.program import command
from tidehub.site import describe
from tidehub.site.describe import Key
from tidehub.site.destinations.catalogue import Destination, destinations, value_at
from tidehub.site.model import Site
from tidehub.site.problems import DEFAULT, KeyPath, Source, dotted
from tidehub.site.reading.load import Loaded
from tidehub.site.reading.sources import path_of

_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^\s]*@")
"""The password in an address such as postgresql://user:password@host/database."""
_PLACES = {
    "hub": "hub configuration",
    "helm": "Helm values",
    "cluster": "objects beside the charts",
    "machine": "one machine",
}
_KINDS = {
    "size": "a size with a unit: KiB, MiB, GiB, TiB (powers of 1024), kB, MB, GB, TB (powers of 1000), B",
    "duration": "a duration with a unit: s, min, h, d",
    "timeout": "a duration with a unit (s, min, h, d), or never",
    "cores": "a number of cores such as 2 or 0.5, or thousandths such as 500m",
    "whole cores": "a whole number of cores, at least 1",
    "text": "one line of text",
    "address": "a web address beginning with http:// or https://",
}


@dataclass(frozen=True)
class Value:
    """The value of a key at one place in a site."""

    path: KeyPath
    written: str
    source: Source
    becomes: tuple[Destination, ...]
    value: Any = None


@dataclass(frozen=True)
class Explanation:
    """A key, and its values: one, or one for each entry of the list that it stands in."""

    key: Key
    values: tuple[Value, ...]
    below: tuple[tuple[Key, tuple[Value, ...]], ...] = ()
    """For a section: the keys in it."""


def find_key(name: str) -> Key:
    """The key that is meant, with or without the numbers of list entries. Raises `UsageError`."""
    path = path_of(name.strip())
    found = describe.find(path) or _without_numbers().get(_plain(path))
    if found is not None:
        return found
    known = [*_without_numbers()]
    wanted = _plain(path).replace("-", "_").lower()
    by_end = [key for key in known if key.endswith(f".{wanted}")]
    close = by_end or difflib.get_close_matches(wanted, known, n=3, cutoff=0.6)
    raise UsageError(
        f"key {name!r} does not exist",
        expected="a key of the site file, such as notebooks.memory.limit, or a section such as dask.cluster",
        fix=f"did you mean {' or '.join(close[:3])}?"
        if close
        else f"see the sections with: {command('explain', 'site')}",
    )


def explain(name: str, loaded: Loaded | None) -> Explanation:
    """A key in a site; without a site only what it means. Raises `UsageError` for a key that is not known."""
    key, path = find_key(name), path_of(name.strip())
    chosen = tuple(part for part in path if isinstance(part, int))
    inner = () if key.section is None else _inside(key)
    if loaded is None:
        return Explanation(key, (), tuple((below, ()) for below in inner))
    below = tuple((one, tuple(_values(loaded, one, chosen))) for one in inner)
    values = tuple(_values(loaded, key, chosen))
    if chosen and not values and not any(found for _, found in below):
        raise UsageError(f"this site has no {name}", fix="entries of a list count from 0")
    return Explanation(key, () if key.section else values, below)


def _inside(key: Key) -> list[Key]:
    """The keys with values anywhere in a section."""
    return [one for one in describe.all_keys() if one.section is None and one.name.startswith(f"{key.name}.")]


def _values(loaded: Loaded, key: Key, chosen: tuple[int, ...]) -> Iterator[Value]:
    for path in _paths(loaded.site, key):
        if tuple(part for part in path if isinstance(part, int))[: len(chosen)] != chosen:
            continue
        value = _without_secrets(key, value_at(loaded.site, path))
        written = describe.written(value, key.kind)
        source = loaded.source_of(path)
        if source == DEFAULT and path[-1] == "slug":
            source = loaded.source_of((*path[:-1], "name"))
        found = destinations(loaded.site, path) if _exists(loaded.site, path) else []
        becomes = tuple(replace(one, value=_without_password(one.value)) for one in found)
        yield Value(path, written, source, becomes, value)


def _without_secrets(key: Key, value: Any) -> Any:
    """A value as it may be shown. Overrides are somebody's own words, and may hold anything: only their keys are."""
    if not key.name.startswith("overrides."):
        return _without_password(value)
    if isinstance(value, str):
        return f"{len(value.splitlines())} lines of Python"
    return tuple(sorted(value)) if isinstance(value, dict) else value


def _without_password(value: Any) -> Any:
    return _PASSWORD.sub(r"\1[secret]@", value) if isinstance(value, str) else value


def _paths(site: Site, key: Key) -> Iterator[KeyPath]:
    """The places of a key in a site: one, or one for each entry of the lists on its way."""
    paths: list[KeyPath] = [()]
    for part in key.name.split("."):
        paths = [(*path, part.removesuffix("[]")) for path in paths]
        if part.endswith("[]"):
            paths = [(*path, index) for path in paths for index in range(len(value_at(site, path) or ()))]
    yield from paths


def _exists(site: Site, path: KeyPath) -> bool:
    """Whether the section around a key is there."""
    return value_at(site, path[:-1]) is not None


def _plain(path: KeyPath) -> str:
    return ".".join(part.removesuffix("[]") for part in path if isinstance(part, str) and part)


def _without_numbers() -> dict[str, Key]:
    return {key.name.replace("[]", ""): key for key in describe.all_keys()}


# --- words ---------------------------------------------------------------------------------------------------------


def lines(explanation: Explanation) -> list[str]:
    """An explanation as text."""
    key = explanation.key
    if key.section is not None:
        return [*_about(key), *_section_lines(explanation)]
    if len(explanation.values) != 1:
        shown = _about(key)
        for value in explanation.values:
            shown += ["", f"{dotted(value.path)} = {value.written}", *_about_value(value)]
        return shown
    (value,) = explanation.values
    return [f"{dotted(value.path)} = {value.written}", *_about(key)[1:], *_about_value(value)]


def _about_value(value: Value) -> list[str]:
    return [f"  set by    {value.source}", *_becomes(value)]


def _about(key: Key) -> list[str]:
    found = [key.name, f"  {key.description}"]
    if key.section is None:
        found.append(f"  may be    {_KINDS.get(key.kind, key.kind.replace('`', ''))}")
        where = f", where {key.name.rpartition('.')[0]} is absent" if key.only_with_section else ""
        found.append(f"  default   {'none: it has to be written' if key.required else key.default + where}")
    return found


def _becomes(value: Value) -> list[str]:
    found: list[str] = []
    for where, title in _PLACES.items():
        for one in value.becomes:
            if one.where == where:
                label = "  becomes   " if not found else "            "
                found.append(f"{label}{title:<17}  {_destination(one)}")
    return found


def _destination(one: Destination) -> str:
    note = f"   ({one.note})" if one.note else ""
    if one.code:
        return f"{one.chart}: {one.key}: Python, {one.value}{note}"
    if one.within:
        read = f"{dotted(one.within)} = {_text(one.value)}"
        return f"{one.chart}: {one.key}: Python, which reads {read}{note}"
    if one.value is None:
        return f"{one.key}{note}"
    shown = _text(one.value)
    return f"{one.chart}: {one.key}: {shown}{note}" if one.where == "helm" else f"{one.key} = {shown}{note}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_text, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_text(inner)}" for name, inner in value.items()) + "}"
    return str(value)


def _section_lines(explanation: Explanation) -> list[str]:
    rows = []
    for key, values in explanation.below:
        if not values:
            rows.append((key.name, "", ""))
        rows += [(dotted(value.path), value.written, str(value.source)) for value in values]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    widths[1] = min(widths[1], 40)
    return [f"  {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip() for row in rows]


# --- data ----------------------------------------------------------------------------------------------------------


def as_dict(explanation: Explanation) -> dict[str, Any]:
    """For `--json`."""
    key = explanation.key
    found: dict[str, Any] = {**_key_dict(key), "values": [_value_dict(value) for value in explanation.values]}
    if key.section is not None:
        found["keys"] = [
            {**_key_dict(below), "values": [_value_dict(value) for value in values]}
            for below, values in explanation.below
        ]
    return found


def _key_dict(key: Key) -> dict[str, Any]:
    return {
        "key": key.name,
        "description": key.description,
        "allowed": _KINDS.get(key.kind, key.kind.replace("`", "")),
        "choices": list(key.choices) or None,
        "required": key.required,
        "default": key.default or None,
    }


def _value_dict(value: Value) -> dict[str, Any]:
    return {
        "key": dotted(value.path),
        "path": list(value.path),
        "value": _plain_data(value.value),
        "written": value.written,
        **value.source.as_dict(),
        "becomes": [one.as_dict() for one in value.becomes],
    }


def _plain_data(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
