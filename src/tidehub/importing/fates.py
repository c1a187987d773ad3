"""What becomes of every value: nothing that stands in the original is without a fate.

A leaf is a scalar, or an empty mapping or list; list items count one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tidehub.errors import Place
from tidehub.site.problems import KeyPath


class Kind(StrEnum):
    """Why a value needs no more attention, or does."""

    UNDERSTOOD = "understood"
    """Stands under a key of the site file."""
    TRANSLATED = "translated"
    """Stands under a key of the site file, not quite as it was; the remark says how."""
    PASSED = "passed through"
    """Kept under `overrides:`; the remark says what is worth knowing."""
    SECRET = "secret"
    """Kept in the secrets file."""
    DROPPED = "dropped"
    """Tidehub makes it itself, or it has no effect; the remark says which."""
    REPLACED = "replaced"
    """A later file states it again, as Helm takes it."""


@dataclass(frozen=True)
class Fate:
    """`key`: of the site file, of the secrets file, or below `overrides`."""

    kind: Kind
    key: str | None = None
    remark: str | None = None


@dataclass(frozen=True)
class LeafFate:
    """One value of the original and what became of it. The value itself is not here: it may be a secret."""

    chart: str
    path: KeyPath
    where: Place
    fate: Fate


def leaves(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """The paths of all leaves in a value."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    else:
        yield path


class ChartValues:
    """The merged values for one chart, their places, and the fates that rules decide."""

    def __init__(self, chart: str, prefix: KeyPath = ()) -> None:
        self.chart = chart
        self.prefix = prefix
        """Where the chart's values stand in the files: `("jupyterhub",)` inside daskhub."""
        self.data: dict[str, Any] = {}
        self.places: dict[KeyPath, Place] = {}
        self.fates: dict[KeyPath, Fate] = {}
        self.moves: dict[KeyPath, KeyPath] = {}
        """What is kept under another key, because its own is out of use."""
        self.replaced: list[LeafFate] = []
        self.rest: dict[KeyPath, str] = {}
        """What is left of Python code of which a part was understood, by the code's path."""

    def get(self, *path: str | int) -> Any:
        """The value at a path, None where there is none."""
        value: Any = self.data
        for part in path:
            inside = isinstance(value, list) and isinstance(part, int) and part < len(value)
            if not inside and not (isinstance(value, dict) and part in value):
                return None
            value = value[part]
        return value

    def has(self, *path: str | int) -> bool:
        """Whether something stands at a path, be it null."""
        return path in self.places

    def mapping(self, *path: str | int) -> dict[str, Any]:
        """The mapping at a path; empty where there is none, or something else."""
        value = self.get(*path)
        return value if isinstance(value, dict) else {}

    def text(self, *path: str | int) -> str | None:
        """A plain text at a path: not empty, and no template."""
        value = self.get(*path)
        plain = isinstance(value, str) and value.strip() and "{{" not in value and value.isprintable()
        return str(value).strip() if plain else None

    def place(self, path: KeyPath) -> Place:
        """Where a value stands, or its nearest parent."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return Place("the values")

    def settle(self, path: KeyPath, fate: Fate) -> None:
        """Decide on every leaf at or below `path` that has no fate yet."""
        value = self.get(*path)
        if value is None and path not in self.places:
            return
        for leaf in leaves(value, path):
            self.fates.setdefault(leaf, fate)

    def understood(self, path: KeyPath, key: str) -> None:
        """It stands under `key` of the site file now."""
        self.settle(path, Fate(Kind.UNDERSTOOD, key))

    def translated(self, path: KeyPath, key: str, remark: str) -> None:
        """It stands under `key` of the site file now, changed as the remark says."""
        self.settle(path, Fate(Kind.TRANSLATED, key, remark))

    def dropped(self, path: KeyPath, reason: str) -> None:
        """It is not needed, for this reason."""
        self.settle(path, Fate(Kind.DROPPED, None, reason))

    def passed(self, path: KeyPath, remark: str | None = None) -> None:
        """It is kept under `overrides:`."""
        if self.has(*path):
            for leaf in leaves(self.get(*path), path):
                self.fates.setdefault(leaf, Fate(Kind.PASSED, self.override_key(leaf), remark))

    def moved(self, path: KeyPath, target: KeyPath, remark: str) -> None:
        """It is kept under `overrides:`, below the name that it has today."""
        self.moves[path] = target
        for leaf in leaves(self.get(*path), path):
            key = self.override_key((*target, *leaf[len(path) :]))
            self.fates.setdefault(leaf, Fate(Kind.PASSED, key, remark))

    def override_key(self, path: KeyPath) -> str:
        """The key below `overrides` that keeps a value: a list is kept as a whole, because Helm replaces it so."""
        whole: list[str] = []
        for part in path:
            if isinstance(part, int):
                break
            whole.append(part)
        return ".".join(["overrides", "helm", self.chart, *whole])

    def settle_the_rest(self) -> None:
        """Whatever no rule knows is passed through."""
        for leaf in leaves(self.data):
            if leaf and leaf not in self.fates:
                self.passed(leaf)

    def accounts(self) -> list[LeafFate]:
        """Every leaf with its fate, those that later files replaced included."""
        settled = [
            LeafFate(self.chart, (*self.prefix, *path), self.place(path), fate)
            for path, fate in self.fates.items()
        ]
        return [*settled, *self.replaced]
