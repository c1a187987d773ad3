"""What `tidehub validate` found: its data and its words. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tidehub.site.problems import MOST_SHOWN, Problem

VERSION = 1
"""Of the JSON's shape. Keys are added without a new number; none is taken away or changes its meaning."""


@dataclass(frozen=True)
class Checked:
    """A checked site file and its problems, errors, warnings and notes, in file order."""

    file: str
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> int:
        """How many of the problems are errors."""
        return self._number("error")

    @property
    def warnings(self) -> int:
        """How many of the problems are warnings."""
        return self._number("warning")

    def _number(self, severity: str) -> int:
        return sum(1 for problem in self.problems if problem.severity == severity)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "version": VERSION,
            "file": self.file,
            "ok": not self.errors,
            "errors": self.errors,
            "warnings": self.warnings,
            "problems": [problem.as_dict() for problem in self.problems],
        }

    def lines(self) -> list[str]:
        """As text."""
        shown = [line for problem in self.problems[:MOST_SHOWN] for line in str(problem).splitlines()]
        if len(self.problems) > MOST_SHOWN:
            shown.append(f"... and {len(self.problems) - MOST_SHOWN} more")
        state = "cannot be used" if self.errors else "is valid" if not self.warnings else "can be used"
        return [
            *shown,
            f"{self.file} {state}: {_count(self.errors, 'error')}, {_count(self.warnings, 'warning')}",
        ]


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"
