"""Reading a YAML text to its end in spite of syntax errors, so that one run names them all."""

from __future__ import annotations

from tidehub.site.problems import Problem
from tidehub.site.reading.syntax import WHOLE_FILE, section_at, without
from tidehub.site.reading.tree import Node, read

MOST_ERRORS = 20
"""Syntax errors that are looked for; a file with more is something else."""
LONGEST = 40_000
"""Characters. Each error costs another reading, so a longer text is read once."""


def read_all(text: str, file: str) -> tuple[Node | None, list[Problem], frozenset[str]]:
    """The tree of what can be read, the problems of the YAML, and the sections with syntax errors in them.

    What stands in those sections is incomplete. `WHOLE_FILE` among them means that nothing else can be trusted.
    """
    lines = text.split("\n")
    found: list[Problem] = []
    broken: set[str] = set()
    reading: str | None = text
    while reading is not None:
        root, problems, stopped = read(reading, file)
        if root is not None or stopped is None:
            return root, _in_order(found, problems), frozenset(broken)
        # Whatever else this reading found, the next one finds again.
        found.append(problems[-1])
        broken.add(section_at(lines, stopped))
        rest = without(reading.split("\n"), stopped)
        more = rest is not None and len(found) < MOST_ERRORS and len(text) <= LONGEST
        reading = "\n".join(rest) if rest is not None and more else None
    return None, _in_order(found, problems[:-1]), frozenset({WHOLE_FILE})


def _in_order(found: list[Problem], others: list[Problem]) -> list[Problem]:
    seen: dict[tuple[int, str], Problem] = {}
    for problem in [*found, *others]:
        line = problem.where.line if problem.where else 0
        seen.setdefault((line, problem.what), problem)
    return list(seen.values())
