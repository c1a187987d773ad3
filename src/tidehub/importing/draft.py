"""The site file that comes to be, and everything that an operator is told about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tidehub.errors import Place
from tidehub.importing.fates import ChartValues, Fate, Kind
from tidehub.secrets.declared import BY_NAME
from tidehub.secrets.placeholders import is_placeholder
from tidehub.site.problems import KeyPath
from tidehub.site.units import format_size


@dataclass(frozen=True)
class Chosen:
    """A value that the site file needs and the values do not state: what was taken, and why."""

    key: str
    value: str
    why: str


@dataclass(frozen=True)
class FoundSecret:
    """A secret's values, the newest first, and where it stood. The values never show."""

    values: tuple[str, ...] = field(repr=False)
    where: Place


class Draft:
    """Site data as they will be written: quantities are text with units."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.origins: dict[KeyPath, Place] = {}
        self.chosen: list[Chosen] = []
        self.secrets: dict[str, FoundSecret] = {}
        self.placeholders: list[tuple[str, Place]] = []
        """Names of secrets whose value is one that somebody meant to replace."""

    def put(self, key: str, value: Any, where: Place | None = None) -> None:
        """Set a dotted key; `where` is what it comes from."""
        path = tuple(key.split("."))
        inner = self.data
        for part in path[:-1]:
            inner = inner.setdefault(part, {})
        inner[path[-1]] = value
        if where is not None:
            self.origins[path] = where

    def get(self, key: str) -> Any:
        """The value of a dotted key, None where there is none."""
        inner: Any = self.data
        for part in key.split("."):
            inner = inner.get(part) if isinstance(inner, dict) else None
        return inner

    def choose(self, key: str, value: Any, why: str, shown: str | None = None) -> None:
        """Set a key that the values do not state."""
        self.put(key, value)
        self.chosen.append(Chosen(key, shown if shown is not None else _shown(value), why))

    def secret(self, values: ChartValues, path: KeyPath, name: str) -> None:
        """Take a declared secret out of the values: into the secrets file, when it is one."""
        value = values.get(*path)
        texts = tuple(value) if isinstance(value, list) else (value,)
        if value is None or value == "" or value == []:
            values.dropped(path, "it is empty; tidehub makes a secret where one is missing")
            return
        where = values.place(path)
        if not all(isinstance(text, str) for text in texts):
            values.settle(path, Fate(Kind.SECRET, self.override_name(values, path), _ODD))
            return
        if any(is_placeholder(text) for text in texts):
            self.placeholders.append((name, where))
            values.settle(path, Fate(Kind.SECRET, name, f"a placeholder, so it is left out: {_next(name)}"))
            return
        if not all(BY_NAME[name].shape.fits(text) for text in texts):
            values.settle(path, Fate(Kind.SECRET, self.override_name(values, path), _ODD))
            return
        known = self.secrets.get(name)
        if known is None:
            self.secrets[name] = FoundSecret(texts, where)
            values.settle(path, Fate(Kind.SECRET, name))
        elif known.values == texts:
            values.settle(path, Fate(Kind.SECRET, name, "the same as the other one"))
        else:
            remark = f"not the same as in {known.where}, which is taken: both sides must know one value"
            values.settle(path, Fate(Kind.SECRET, name, remark))

    @staticmethod
    def override_name(values: ChartValues, path: KeyPath) -> str:
        """The key below `overrides` of the secrets file."""
        whole = [str(part) for part in path if not isinstance(part, int)]
        return ".".join(["overrides", values.chart, *whole])


_ODD = "not of the form that tidehub gives this secret; kept as it is, for this chart"


def _next(name: str) -> str:
    if BY_NAME[name].given:
        return f"put the real {name} into the secrets file"
    return "tidehub makes one"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shown(inner)}" for key, inner in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def size(amount: int) -> str:
    """Bytes as a site file has them, exact."""
    return format_size(amount)


def cores(amount: float) -> int | float:
    """Cores as a site file has them."""
    return int(amount) if amount == int(amount) else amount


def is_line(value: Any) -> bool:
    """Whether a value is one line of text that a site file takes."""
    return (
        isinstance(value, str)
        and 0 < len(value.strip()) <= 255
        and value.strip().isprintable()
        and "{{" not in value
    )
