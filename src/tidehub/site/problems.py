"""Problems of a site: what is wrong, where, what was expected, what to do. Reported all together."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from tidehub.errors import Place, UsageError

MOST_SHOWN = 50
"""Problems in one message; more than that is another file given by mistake."""

FILE = "FILE"
"""The last word of a command that is about this site, until it is known which file that is."""

KeyPath = tuple[str | int, ...]
"""Where a value stands in the site: `("notebooks", "profiles", 0, "name")`."""


def dotted(path: KeyPath) -> str:
    """A key path as text: `notebooks.profiles[0].name`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


Kind = Literal["default", "preset", "file", "environment", "command line"]


@dataclass(frozen=True)
class Source:
    """What a value was set by. `name`: the preset, the variable, or the option as it was given."""

    kind: Kind
    name: str = ""
    place: Place | None = None

    def __str__(self) -> str:
        match self.kind:
            case "file":
                return str(self.place)
            case "preset":
                return f"preset {self.name}"
            case "environment":
                return f"environment variable {self.name}"
            case "command line":
                return f"the command line ({self.name})" if self.name else "the command line"
        return "default"

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        place = self.place
        return {
            "source": self.kind,
            "source_name": self.name or None,
            "file": place.file if place else None,
            "line": (place.line or None) if place else None,
            "column": (place.column or None) if place else None,
        }


DEFAULT = Source("default")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong (`error`), that works but probably not as it is meant (`warning`), or that is as it is
    meant and may surprise users (`note`).

    `source` is known for values that were not written in the file: a preset's, a variable's, an option's.
    """

    what: str
    path: KeyPath = ()
    where: Place | None = None
    expected: str | None = None
    fix: str | None = None
    severity: Literal["error", "warning", "note"] = "error"
    source: Source | None = None

    @property
    def key(self) -> str:
        """The dotted key, empty for the file as a whole."""
        return dotted(self.path)

    def at(self, where: Place | None) -> Problem:
        """The same problem, with its place in a file."""
        return replace(self, where=where)

    def about(self, file: str | None) -> Problem:
        """The same problem, with the name of the site file in the command that its `fix` ends with (`FILE`); None where
        commands find the site without it."""
        if self.fix is None or not self.fix.endswith(f" {FILE}"):
            return self
        return replace(
            self, fix=self.fix.removesuffix(FILE).rstrip() + (f" {shlex.quote(file)}" if file else "")
        )

    def of(self, source: Source) -> Problem:
        """The same problem, with the source of the value."""
        return replace(self, source=source, where=source.place or Place(str(source)))

    def as_dict(self) -> dict[str, Any]:
        """For `--json`: every key is always there. Places count from 1; the end is after the last character."""
        foreign = self.source is not None and self.source.kind != "file"
        where = None if foreign else self.where
        return {
            "severity": self.severity,
            "key": self.key,
            "path": list(self.path),
            "file": where.file if where else None,
            "line": (where.line or None) if where else None,
            "column": (where.column or None) if where else None,
            "end_line": (where.end_line or None) if where else None,
            "end_column": (where.end_column or None) if where else None,
            "source": self.source.kind if self.source else "file",
            "source_name": (self.source.name or None) if self.source else None,
            "what": self.what,
            "expected": self.expected,
            "fix": self.fix,
        }

    def __str__(self) -> str:
        return self._words(() if self.severity == "error" else (self.severity,))

    def unmarked(self) -> str:
        """The same for who marks warnings and notes as such: without that word."""
        return self._words(())

    def _words(self, marks: tuple[str, ...]) -> str:
        parts = [*([str(self.where)] if self.where else []), *marks]
        if self.path:
            parts.append(self.key)
        lines = [": ".join([*parts, self.what])]
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        if self.fix:
            lines.append(f"  to do: {self.fix}")
        return "\n".join(lines)


def warning(what: str, path: KeyPath, *, expected: str | None = None, fix: str | None = None) -> Problem:
    """Something that works, but probably not as it is meant."""
    return Problem(what, path, expected=expected, fix=fix, severity="warning")


class SiteError(UsageError):
    """A site that cannot be used. `problems` holds every error, warning and note that was found, in file order."""

    def __init__(self, file: str, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        self.file = file
        errors = [problem for problem in self.problems if problem.severity == "error"]
        count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
        super().__init__(f"{file}: the site file cannot be used ({count})")

    def __str__(self) -> str:
        shown = [str(problem) for problem in self.problems[:MOST_SHOWN]]
        if len(self.problems) > MOST_SHOWN:
            shown.append(f"... and {len(self.problems) - MOST_SHOWN} more")
        return "\n".join([self.what, *shown])
