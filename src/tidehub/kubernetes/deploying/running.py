"""Runs the steps of an operation: each is written down before it is done, and done only where it is needed."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from tidehub import __version__
from tidehub.errors import TidehubError
from tidehub.helm.engine import Helm
from tidehub.helm.problems import Interrupted as HelmInterrupted
from tidehub.helm.problems import Unreachable
from tidehub.kubernetes.cluster.port import Cluster, ClusterProblem
from tidehub.kubernetes.deploying.ending import heed
from tidehub.kubernetes.deploying.holder import Holder, this_process
from tidehub.kubernetes.deploying.journal import Journal, Operation
from tidehub.kubernetes.deploying.lock import Lock, Locked
from tidehub.kubernetes.deploying.record import Record, read_record, write_record
from tidehub.kubernetes.deploying.words import (
    Commands,
    Failure,
    Interrupted,
    Quiet,
    Say,
    now,
    state_of,
)

Moment = Literal["begins", "worked", "ends"]
Watcher = Callable[[str, Moment], None]
"""Told of each step when it is written down as begun, when its work is done, and when that is written down too."""


@dataclass(frozen=True)
class Options:
    """What the operator chose, for every operation."""

    timeout: float = 900
    """Seconds that the pods of one release, or what Helm waits for, may take."""
    adopt: frozenset[str] = frozenset()
    """Names of releases and CRDs, and KIND/NAME of objects, of other owners that may be taken over."""
    save: bool = True
    """Whether what is there is saved before it is changed."""
    check: bool = True
    """Whether the public address is asked at the end."""
    outage: float = 60
    """Seconds that the API server may not answer while something is waited for."""
    poll: float = 1.0
    """Seconds between two looks at what is waited for."""

    def adopts(self, kind: str, name: str) -> bool:
        """Whether an object may be taken over. Its name alone is not enough: the hub's Ingress has the release's."""
        return f"{kind}/{name}" in self.adopt


@dataclass
class Work:
    """What the steps of one operation share."""

    cluster: Cluster
    helm: Helm
    namespace: str
    say: Say = field(default_factory=Quiet)
    options: Options = field(default_factory=Options)
    commands: Commands = field(default_factory=lambda: Commands("deploy"))
    holder: Holder = field(default_factory=this_process)
    record: Record = field(default_factory=Record)
    ensure: Callable[[], None] = lambda: None
    """Raises where the lock is lost."""
    notes: list[str] = field(default_factory=list)
    """What the operator should know at the end."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What was read and holds until something is changed."""
    facts_of_server: dict[str, float] = field(default_factory=dict)
    """`offset`: seconds that the API server's clock is ahead of ours."""

    def write(self, record: Record) -> None:
        """The record as it is from now on."""
        ahead = write_record(self.cluster, self.namespace, record)
        self.record = record
        if ahead is not None:
            self.facts_of_server["offset"] = ahead


class Step(Protocol):
    """One thing to do. Doing it twice, or after half of it was done, is the same as doing it once."""

    @property
    def name(self) -> str:
        """In the journal; unique in an operation."""

    @property
    def title(self) -> str:
        """As in "CRDs"."""

    def needed(self, work: Work) -> bool:
        """Whether there is anything to do. Reads only."""

    def run(self, work: Work) -> str:
        """Does it; what came of it, in words. Raises `TidehubError`."""


@dataclass(frozen=True)
class Result:
    """What an operation did."""

    operation: str
    namespace: str
    changed: bool
    revision: int
    """Of the record; 0 where nothing is deployed."""
    seconds: float
    journal: Journal | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "ok": True,
            "operation": self.operation,
            "namespace": self.namespace,
            "changed": self.changed,
            "revision": self.revision,
            "seconds": round(self.seconds, 3),
            "steps": self.journal.to_json()["steps"] if self.journal else [],
            "notes": list(self.notes),
        }


def run_steps(
    work: Work,
    operation: Operation,
    steps: Sequence[Step],
    *,
    ensure_namespace: Callable[[Work], None],
    checks: Callable[[Work], None] = lambda _: None,
    finish: Callable[[Work, Record], Record | None] = lambda _, record: record,
    back: Callable[[Work], str] | None = None,
    watch: Watcher = lambda step, moment: None,
    always: bool = False,
    aim: str = "",
) -> Result:
    """The operation, in order, under the lock of the namespace.

    Where no step is needed and nothing is unfinished, nothing is written, not even the lock (unless `always`).
    `checks` raises `Refused` where something stands against it; it runs before the lock and again under it.
    `finish` gives the record of the state that was reached, or None where the record goes too.
    Raises `Failure`, `Interrupted`, `Refused`, `Locked`.
    """
    began = time.monotonic()
    work.record = read_record(work.cluster, work.namespace) or Record()
    checks(work)
    if not always and work.record.unfinished is None and not any_needed(work, steps):
        return Result(operation, work.namespace, False, _revision(work), time.monotonic() - began)
    run = _Run(work, operation, steps, watch, back, aim)
    try:
        ensure_namespace(work)
        with Lock(work.cluster, work.namespace, operation, work.holder, told=work.say.note) as lock:
            work.ensure = lock.ensure
            # Somebody else may have been here between the first look and the lock.
            work.facts.clear()
            work.record = read_record(work.cluster, work.namespace) or Record()
            checks(work)
            try:
                run.steps()
                heed()
                run.end(finish)
            except KeyboardInterrupt:
                # Under the lock still: nobody else's journal is overwritten.
                raise run.interrupted() from None
    except KeyboardInterrupt:
        raise Interrupted(None, state="nothing was changed", command=work.commands.again) from None
    return Result(
        operation,
        work.namespace,
        True,
        _revision(work),
        time.monotonic() - began,
        run.journal,
        tuple(work.notes),
    )


def any_needed(work: Work, steps: Sequence[Step]) -> bool:
    """Whether any step has something to do. All are asked at the same time: what counts is the way to the server."""
    if not steps:
        return False
    with ThreadPoolExecutor(max_workers=min(8, len(steps))) as pool:
        return any(list(pool.map(lambda step: step.needed(work), steps)))


class _Run:
    """One run through the steps, with its journal."""

    def __init__(
        self,
        work: Work,
        operation: Operation,
        steps: Sequence[Step],
        watch: Watcher,
        back: Callable[[Work], str] | None,
        aim: str,
    ) -> None:
        self.journal: Journal | None = None
        self._work = work
        self._operation: Operation = operation
        self._steps = steps
        self._watch = watch
        self._back = back
        self._aim = aim
        self._titles = {step.name: step.title for step in steps}

    def steps(self) -> None:
        work = self._work
        if (before := work.record.unfinished) is not None:
            ended = {"failed": "failed", "interrupted": "was interrupted"}.get(before.outcome, "did not end")
            at = before.current or (before.entries[-1] if before.entries else None)
            work.say.note(
                f"The last {before.operation} ({before.who}, {before.begun}) {ended}"
                f"{f' at {at.step}' if at else ''}; going on"
            )
        self.journal = Journal.start(
            self._operation,
            self._titles,
            id=secrets.token_hex(4),
            who=work.holder.user,
            tidehub=__version__,
            at=now(),
            command=work.commands.again,
            aim=self._aim,
        )
        try:
            for step in self._steps:
                self._do(step)
        except HelmInterrupted:
            # Helm has ended and written down how far it came: the same as Ctrl-C between two steps.
            raise KeyboardInterrupt from None
        except TidehubError as error:
            raise self._failure(error) from error

    def end(self, finish: Callable[[Work, Record], Record | None]) -> None:
        assert self.journal is not None
        self.journal = self.journal.end("done", now())
        try:
            reached = finish(self._work, replace(self._work.record, journal=self.journal))
            if reached is not None:
                self._work.write(reached)
        except TidehubError as error:
            raise self._failure(error) from error

    def interrupted(self) -> Interrupted:
        if self.journal is not None:
            self._write_best_effort(self.journal.end("interrupted", now()))
        return Interrupted(self.journal, state=self._state(), command=self._work.commands.again)

    def _do(self, step: Step) -> None:
        assert self.journal is not None
        work = self._work
        heed()
        work.ensure()
        if not step.needed(work):
            self.journal = self.journal.finish(step.name, now(), nothing=True)
            return
        self.journal = self.journal.begin(step.name, now())
        work.write(replace(work.record, journal=self.journal))
        work.say.step(step.title)
        self._watch(step.name, "begins")
        note = step.run(work)
        work.facts.clear()
        self._watch(step.name, "worked")
        self.journal = self.journal.finish(step.name, now(), note)
        work.write(replace(work.record, journal=self.journal))
        work.say.done(f"{step.title}: {note}" if note else step.title)
        self._watch(step.name, "ends")

    def _failure(self, error: TidehubError) -> Failure:
        journal = self.journal
        if journal is not None and (current := journal.current) is not None:
            self.journal = journal.fail(current.step, now(), error.what)
        elif journal is not None:
            self.journal = journal.end("failed", now())
        command = self._command(error)
        if self.journal is not None:
            # `status` advises what is advised here.
            self.journal = replace(self.journal, command=command)
        unanswered = _is_silence(error)
        if self.journal is not None and not isinstance(error, Locked) and not unanswered:
            self._write_best_effort(self.journal)
        return Failure(
            error,
            state=self._state(),
            command=command,
            journal=self.journal,
            evidence=getattr(error, "evidence", ()),
            unanswered=unanswered,
        )

    def _command(self, error: TidehubError) -> str:
        """The one that goes on; the one that goes back where going on would end in the same place."""
        if self._back is not None and getattr(error, "goes_back", False):
            return self._back(self._work)
        return self._work.commands.again

    def _state(self) -> str:
        return state_of(self.journal, lambda step: self._titles.get(step, step))

    def _write_best_effort(self, journal: Journal) -> None:
        # The API server may be what failed; the journal then still says that this step was begun.
        with contextlib.suppress(ClusterProblem, KeyboardInterrupt):
            self._work.write(replace(self._work.record, journal=journal))


def _is_silence(error: TidehubError) -> bool:
    """Whether the API server did not answer: asking it for anything more only takes more time."""
    if isinstance(error, ClusterProblem):
        return error.reason in ("unreachable", "timeout")
    return isinstance(error, Unreachable)


def _revision(work: Work) -> int:
    return work.record.deployed.revision if work.record.deployed else 0
