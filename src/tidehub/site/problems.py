"""Problems of a site: what is wrong, where, what was expected, what to do. Reported all together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from tidehub.errors import Place, UsageError

MOST_SHOWN = 50
"""Problems in one message; more than that is another file given by mistake."""

KeyPath = tuple[str | int, ...]
"""Where a value stands in the site: `("notebooks", "profiles", 0, "name")`."""


def dotted(path: KeyPath) -> str:
    """A key path for a person: `notebooks.profiles[0].name`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong (`error`) or that a person should know (`warning`)."""

    what: str
    path: KeyPath = ()
    where: Place | None = None
    expected: str | None = None
    fix: str | None = None
    severity: Literal["error", "warning"] = "error"

    @property
    def key(self) -> str:
        """The dotted key, empty for the file as a whole."""
        return dotted(self.path)

    def at(self, where: Place | None) -> Problem:
        """The same problem, with its place in a file."""
        return replace(self, where=where)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "severity": self.severity,
            "key": self.key,
            "file": self.where.file if self.where else None,
            "line": self.where.line if self.where else None,
            "column": self.where.column if self.where else None,
            "what": self.what,
            "expected": self.expected,
            "fix": self.fix,
        }

    def __str__(self) -> str:
        parts = [str(self.where)] if self.where else []
        if self.severity == "warning":
            parts.append("warning")
        if self.path:
            parts.append(self.key)
        lines = [": ".join([*parts, self.what])]
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        if self.fix:
            lines.append(f"  to do: {self.fix}")
        return "\n".join(lines)


class SiteError(UsageError):
    """A site that cannot be used. `problems` holds every error and warning that was found, in file order."""

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
