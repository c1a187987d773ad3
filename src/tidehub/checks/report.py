"""What a check found: one entry a phase, with its time and, where it failed, why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["ok", "failed", "skipped", "not run"]


class PhaseFailed(Exception):
    """A phase that did not succeed. `why` is to be read; `evidence` are lines that show it."""

    def __init__(self, why: str, evidence: Sequence[str] = ()) -> None:
        super().__init__(why)
        self.why = why
        self.evidence = tuple(evidence)


@dataclass(frozen=True)
class Phase:
    """One step of the path. `seconds` is wall time; `detail` says what was seen, `why` what went wrong."""

    name: str
    title: str
    state: State
    seconds: float = 0.0
    detail: str = ""
    why: str = ""
    news: tuple[str, ...] = ()
    """What the platform told the user meanwhile, such as the place in the queue."""
    evidence: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The phase as JSON; `ok` is null for a phase that was not tried."""
        return {
            "name": self.name,
            "title": self.title,
            "ok": {"ok": True, "failed": False}.get(self.state),
            "state": self.state,
            "seconds": round(self.seconds, 3),
            "detail": self.detail,
            "why": self.why,
            "news": list(self.news),
            "evidence": list(self.evidence),
        }


@dataclass
class Report:
    """The whole path of one user through one platform."""

    address: str
    user: str = ""
    phases: list[Phase] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing failed and something was tried."""
        states = {phase.state for phase in self.phases}
        return "ok" in states and "failed" not in states and "not run" not in states

    @property
    def seconds(self) -> float:
        """Wall time of all phases together."""
        return sum(phase.seconds for phase in self.phases)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "ok": self.ok,
            "address": self.address,
            "user": self.user,
            "seconds": round(self.seconds, 3),
            "phases": [phase.to_json() for phase in self.phases],
        }


_MARKS: dict[State, str] = {"ok": "✓", "failed": "✗", "skipped": "–", "not run": "·"}
_PLAIN_MARKS: dict[State, str] = {"ok": "ok  ", "failed": "FAIL", "skipped": "skip", "not run": "-   "}


def lines(phase: Phase, *, plain: bool = False) -> list[str]:
    """A phase for a terminal: one line, and below a failure its reason and evidence. `plain` is ASCII."""
    mark = (_PLAIN_MARKS if plain else _MARKS)[phase.state]
    took = f"{phase.seconds:7.2f} s" if phase.state in ("ok", "failed") else " " * 9
    said = {"ok": phase.detail, "failed": "", "skipped": phase.detail, "not run": "not run"}[phase.state]
    first = f"  {mark} {phase.title:<22} {took}  {said}".rstrip()
    if phase.state != "failed":
        return [first]
    told = [f"      reported meanwhile: {phase.news[-1]}"] if phase.news else []
    return [
        first,
        *(f"      {line}" for line in phase.why.splitlines()),
        *told,
        *(f"      | {line}" for line in phase.evidence),
    ]
