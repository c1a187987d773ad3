"""What operators read: progress, states, and the one command that goes on or goes back."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tidehub.errors import FAILED, INTERRUPTED, TidehubError
from tidehub.kubernetes.deploying.journal import Journal
from tidehub.program import command
from tidehub.saying import Quiet as Quiet
from tidehub.saying import Say as Say


def now() -> str:
    """The time of day as it is recorded: RFC 3339, UTC, whole seconds."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def span(seconds: float) -> str:
    """A duration as it is said: `40 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def counted(number: int, one: str, many: str = "") -> str:
    """`1 release`, `2 releases`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def listed(words: Iterable[str], most: int = 5) -> str:
    """`a, b and c`; beyond `most` of them, how many more."""
    given = list(words)
    if len(given) > most:
        given = [*given[: most - 1], f"{len(given) - most + 1} more"]
    if len(given) < 2:
        return "".join(given)
    return f"{', '.join(given[:-1])} and {given[-1]}"


@dataclass(frozen=True)
class Commands:
    """How this operation was called, for the command that goes on: options that choose site and cluster, no secrets."""

    operation: str
    options: tuple[str, ...] = ()
    """All that was given to it, in order."""
    common: tuple[str, ...] = ()
    """Of these, what every other command needs too: site file, kubeconfig, context, namespace."""

    @property
    def again(self) -> str:
        """The same again."""
        return command(self.operation, *self.options)

    def other(self, operation: str, *more: str) -> str:
        """Another command about the same place."""
        return command(operation, *self.common, *more)


class Failure(TidehubError):
    """An operation ended before its end: what happened, the state of things, and one command."""

    def __init__(
        self,
        cause: TidehubError,
        *,
        state: str,
        command: str,
        journal: Journal | None = None,
        evidence: Iterable[str] = (),
        unanswered: bool = False,
    ) -> None:
        self.unanswered = unanswered
        """Whether the API server does not answer, so that neither journal nor lock could be told."""
        self.cause = cause
        self.state = state
        self.command = command
        self.journal = journal
        self.evidence = tuple(evidence)
        super().__init__(cause.what, where=cause.where, expected=cause.expected, fix=cause.fix)

    def __str__(self) -> str:
        lines = [super().__str__()]
        lines += [f"    {line}" for line in self.evidence]
        lines.append(f"  state: {self.state}")
        lines.append(f"  then: {self.command}")
        return "\n".join(lines)


class Interrupted(TidehubError):
    """The operator pressed Ctrl-C, or the process was asked to end."""

    exit_code = INTERRUPTED

    def __init__(self, journal: Journal | None, *, state: str, command: str) -> None:
        self.journal = journal
        self.state = state
        self.command = command
        super().__init__("Interrupted.")

    def __str__(self) -> str:
        return f"Interrupted.\n  state: {self.state}\n  then: {self.command}"


class Refused(TidehubError):
    """Nothing was changed, because something stands against it."""

    exit_code = FAILED


def state_of(journal: Journal | None, title: Callable[[str], str] = str) -> str:
    """How far an operation came, in one sentence."""
    if journal is None:
        return "nothing was changed"
    done = [title(step) for step in journal.done]
    current = journal.current
    parts = []
    if done:
        parts.append(f"done: {', '.join(done)}")
    if current is not None:
        parts.append(f"{'not finished' if current.state == 'begun' else 'failed'}: {title(current.step)}")
    if journal.left:
        parts.append(f"not begun: {', '.join(title(step) for step in journal.left)}")
    return "; ".join(parts) or "nothing was changed"
