"""Where values come from: default < preset < file < environment < command line. Pure data and merging."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tidehub.site.problems import DEFAULT, KeyPath, Problem, Source

PREFIX = "TIDEHUB__"
"""`TIDEHUB__NOTEBOOKS__MEMORY__LIMIT` sets `notebooks.memory.limit`."""

WHOLE: frozenset[KeyPath] = frozenset({("login",)})
"""What replaces a preset's as a whole: half of another community's rule of admission must never remain."""


class Layers:
    """Data put together from several sources, and the source of every value in it."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.sources: dict[KeyPath, Source] = {}

    def merge(self, data: Mapping[str, Any], source: Callable[[KeyPath], Source]) -> None:
        """Put data over what is there: mappings key by key, everything else as a whole."""
        self._merge(self.data, data, (), source)

    def put(self, path: KeyPath, value: Any, source: Source) -> Problem | None:
        """Set one value, whole. Makes the mappings around it; a list entry must be there."""
        inner: Any = self.data
        for depth, part in enumerate(path):
            last = depth == len(path) - 1
            if isinstance(inner, list):
                if not isinstance(part, int) or part >= len(inner):
                    return Problem(
                        "the list has no such entry",
                        path[: depth + 1],
                        expected=f"a number below {len(inner)}: entries count from 0",
                        source=source,
                    )
            elif not last and not isinstance(inner.get(part), (dict, list)):
                inner[part] = {}
                self.sources[path[: depth + 1]] = source
            if last:
                inner[part] = value
            else:
                inner = inner[part]
        self._forget(path)
        for inside in _paths(value, path):
            self.sources[inside] = source
        return None

    def source_of(self, path: KeyPath) -> Source:
        """Of a value, or of the nearest mapping or list around it."""
        for length in range(len(path), -1, -1):
            if (found := self.sources.get(path[:length])) is not None:
                return found
        return DEFAULT

    def _merge(
        self, old: dict[str, Any], new: Mapping[str, Any], path: KeyPath, source: Callable[[KeyPath], Source]
    ) -> None:
        self.sources[path] = source(path)
        for key, value in new.items():
            inside = (*path, key)
            if isinstance(value, Mapping) and isinstance(old.get(key), dict) and inside not in WHOLE:
                self._merge(old[key], value, inside, source)
                continue
            if key in old:
                self._forget(inside)
            old[key] = value
            for below in _paths(value, inside):
                self.sources[below] = source(below)

    def _forget(self, path: KeyPath) -> None:
        for known in [known for known in self.sources if known[: len(path)] == path]:
            del self.sources[known]


def _paths(value: Any, path: KeyPath) -> list[KeyPath]:
    found = [path]
    if isinstance(value, Mapping):
        for key, inner in value.items():
            found += _paths(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += _paths(inner, (*path, index))
    return found


def path_of(key: str) -> KeyPath:
    """`notebooks.profiles[0].name` or `notebooks.profiles.0.name` as a path."""
    parts = key.replace("[", ".").replace("]", "").split(".")
    return tuple(int(part) if _is_index(part) else part for part in parts)


def _is_index(part: str) -> bool:
    """Whether it counts in a list; pydantic names a number beyond 64 bits by its text."""
    return part.isdecimal() and part.isascii() and len(part) < 10


def path_of_variable(name: str) -> KeyPath:
    """`TIDEHUB__NOTEBOOKS__MEMORY__LIMIT` as a path. Chart names have `-`, which a variable cannot hold."""
    path = path_of(name.removeprefix(PREFIX).lower().replace("__", "."))
    charts = path[:2] == ("kubernetes", "charts")
    return tuple(
        part.replace("_", "-") if charts and depth > 1 and isinstance(part, str) else part
        for depth, part in enumerate(path)
    )
