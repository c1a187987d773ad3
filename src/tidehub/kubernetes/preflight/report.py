"""What preflight found, as lines of text and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from tidehub.kubernetes.preflight.model import Finding, State

VERSION = 1
"""Of the JSON's shape. Keys are added without a new number; none is taken away or changes its meaning."""
_MARKS: dict[State, tuple[str, str]] = {
    "ok": ("✓", "ok"),
    "warning": ("!", "warning"),
    "problem": ("✗", "PROBLEM"),
    "unknown": ("?", "unknown"),
}


def lines(findings: Iterable[Finding], *, plain: bool = False) -> Iterable[str]:
    """By group, each with its mark, and the remedy below what needs one. `plain` writes marks as words."""
    for group, members in groupby(findings, key=lambda one: one.group):
        yield group
        for one in members:
            mark = f"{_MARKS[one.state][1]}:" if plain else _MARKS[one.state][0]
            head, *rest = one.what.splitlines() or [""]
            yield f"  {mark} {one.item}: {head}"
            yield from (f"      {line}" for line in rest)
            if one.state == "ok":
                continue
            yield from (f"      {line}" for line in one.evidence)
            for number, line in enumerate(one.fix.splitlines()):
                yield f"      {'to do: ' if not number else '       '}{line}"


def summary(findings: Sequence[Finding]) -> str:
    """One line: how it stands."""
    counts = {state: sum(one.state == state for one in findings) for state in _MARKS}
    parts = [_counted(counts[state], state) for state in ("problem", "warning") if counts[state]]
    if counts["unknown"]:
        parts.append(f"{counts['unknown']} unknown")
    if not parts:
        return f"Ready: {len(findings)} items are in order."
    start = "Not ready" if counts["problem"] else "Ready"
    return f"{start}: {', '.join(parts)}; {counts['ok']} items are in order."


def ready(findings: Iterable[Finding]) -> bool:
    """Whether nothing that was found prevents a deployment."""
    return all(one.state != "problem" for one in findings)


def as_dict(findings: Sequence[Finding], *, cluster: str | None, namespace: str) -> dict[str, Any]:
    """For `--json`."""
    return {
        "version": VERSION,
        "ready": ready(findings),
        "cluster": cluster,
        "namespace": namespace,
        "findings": [one.as_dict() for one in findings],
    }


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
