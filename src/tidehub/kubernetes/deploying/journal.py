"""The journal of an operation: every step is written down before it is done. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from tidehub.errors import TidehubError

Operation = Literal["deploy", "upgrade", "rollback", "uninstall"]
State = Literal["waiting", "begun", "done", "nothing to do", "failed"]
Outcome = Literal["", "done", "failed", "interrupted"]
"""How an operation ended; empty while it runs, and forever where its process was killed."""


@dataclass(frozen=True)
class Entry:
    """One step of an operation."""

    step: str
    state: State = "waiting"
    at: str = ""
    """When it got into this state, RFC 3339."""
    note: str = ""
    """What came of it, in words; never a secret."""


@dataclass(frozen=True)
class Journal:
    """One operation: who does it with what, and how far it came."""

    operation: Operation
    id: str
    who: str
    tidehub: str
    """Version of the tidehub that works."""
    begun: str
    """RFC 3339."""
    command: str
    """What was typed, without values: what goes on after an interruption."""
    entries: tuple[Entry, ...]
    aim: str = ""
    """Where it goes, where the site file does not say that: the revision of a rollback."""
    ended: str = ""
    outcome: Outcome = ""

    @classmethod
    def start(
        cls,
        operation: Operation,
        steps: Iterable[str],
        *,
        id: str,
        who: str,
        tidehub: str,
        at: str,
        command: str,
        aim: str = "",
    ) -> Journal:
        """A journal in which nothing is done yet."""
        return cls(operation, id, who, tidehub, at, command, tuple(Entry(step) for step in steps), aim)

    @property
    def finished(self) -> bool:
        """Whether it came to its end; otherwise somebody has to go on or go back."""
        return self.outcome == "done"

    @property
    def current(self) -> Entry | None:
        """The step that was begun and not finished, or that failed."""
        return next((entry for entry in self.entries if entry.state in ("begun", "failed")), None)

    @property
    def done(self) -> tuple[str, ...]:
        """Steps that are finished, in order."""
        return tuple(entry.step for entry in self.entries if entry.state in ("done", "nothing to do"))

    @property
    def left(self) -> tuple[str, ...]:
        """Steps that nobody began, in order."""
        return tuple(entry.step for entry in self.entries if entry.state == "waiting")

    def begin(self, step: str, at: str) -> Journal:
        """The step is about to be done."""
        return self._with(step, "begun", at, "")

    def finish(self, step: str, at: str, note: str = "", *, nothing: bool = False) -> Journal:
        """The step is done, or there was `nothing` to do."""
        return self._with(step, "nothing to do" if nothing else "done", at, note)

    def fail(self, step: str, at: str, note: str) -> Journal:
        """The step failed; the operation ends here."""
        return self._with(step, "failed", at, note).end("failed", at)

    def end(self, outcome: Outcome, at: str) -> Journal:
        """The operation is over."""
        return replace(self, outcome=outcome, ended=at)

    def note_of(self, step: str) -> str:
        """What came of a step; empty where nothing did."""
        return next((entry.note for entry in self.entries if entry.step == step), "")

    def to_json(self) -> dict[str, Any]:
        """For the record in the cluster."""
        return {
            "operation": self.operation,
            "id": self.id,
            "who": self.who,
            "tidehub": self.tidehub,
            "command": self.command,
            "aim": self.aim,
            "begun": self.begun,
            "ended": self.ended,
            "outcome": self.outcome,
            "steps": [
                {"step": entry.step, "state": entry.state, "at": entry.at, "note": entry.note}
                for entry in self.entries
            ],
        }

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Journal:
        """Raises `KeyError`, `TypeError` or `ValueError` for what no tidehub wrote."""
        return cls(
            operation=_one_of(read["operation"], ("deploy", "upgrade", "rollback", "uninstall")),
            id=str(read["id"]),
            who=str(read["who"]),
            tidehub=str(read["tidehub"]),
            begun=str(read["begun"]),
            command=str(read["command"]),
            aim=str(read["aim"]),
            ended=str(read["ended"]),
            outcome=_one_of(read["outcome"], ("", "done", "failed", "interrupted")),
            entries=tuple(
                Entry(
                    str(entry["step"]),
                    _one_of(entry["state"], ("waiting", "begun", "done", "nothing to do", "failed")),
                    str(entry["at"]),
                    str(entry["note"]),
                )
                for entry in read["steps"]
            ),
        )

    def _with(self, step: str, state: State, at: str, note: str) -> Journal:
        if all(entry.step != step for entry in self.entries):
            raise TidehubError(f"the journal of this {self.operation} has no step {step!r}")
        return replace(
            self,
            entries=tuple(
                Entry(step, state, at, note) if entry.step == step else entry for entry in self.entries
            ),
        )


def _one_of(given: Any, known: tuple[str, ...]) -> Any:
    if given not in known:
        raise ValueError(f"{given!r} is not one of {', '.join(known)}")
    return given
