"""A user's path, step by step: each timed, each with a deadline, and cleaned up after in every case."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tidehub.checks.browser import Browser
from tidehub.checks.kernel import Kernel
from tidehub.checks.report import Phase, PhaseFailed, Report, State
from tidehub.checks.target import Target


@dataclass
class Journey:
    """What one path through a platform has reached so far."""

    target: Target
    browser: Browser
    profile: str | None = None
    """The profile to start, by slug; None takes the default one."""
    wanted_user: str | None = None
    user: str = ""
    signed_in: bool = False
    server_started: bool = False
    kernel: Kernel | None = None
    cluster: str = ""
    dashboard: str = ""
    news: list[str] = field(default_factory=list)
    """What the platform told the user in the running phase."""

    def is_user(self, record: Mapping[str, Any]) -> None:
        """From here on this user goes the path: the hub's record says who, the site what they are promised."""
        self.user = str(record["name"])
        if self.target.for_user is not None:
            promised = self.target.for_user(record)
            self.target = replace(promised, accounts=self.target.accounts, token=self.target.token)

    def tell(self, message: str) -> None:
        """Keeps a message of the platform, once."""
        if message and (not self.news or self.news[-1] != message):
            self.news.append(message)

    def need_kernel(self) -> Kernel:
        """The running kernel. Raises `PhaseFailed` without one."""
        if self.kernel is None:
            raise PhaseFailed("no kernel was started")
        return self.kernel


Do = Callable[[Journey], Awaitable[str]]


@dataclass(frozen=True)
class Step:
    """One phase. `do` returns what was seen, in a few words, or raises `PhaseFailed`."""

    name: str
    title: str
    do: Do
    deadline: float
    """Seconds."""
    logs: tuple[str, ...] = ("hub",)
    """Parts whose logs may tell why it failed."""
    skip: Callable[[Journey], str] = lambda journey: ""
    """A reason not to try it at all, or nothing."""
    leftover: Callable[[Journey], bool] | None = None
    """For a step that clears up: whether there is something to clear up. It runs after a failure too."""


async def take(journey: Journey, steps: Sequence[Step], tell: Callable[[Phase], None]) -> Report:
    """Goes the path and returns the report; `tell` gets each phase as it ends. Cancelling still clears up."""
    report = Report(journey.target.address)

    def enter(phase: Phase) -> None:
        report.user = journey.user
        report.phases.append(phase)
        tell(phase)

    failed = False
    try:
        for step in steps:
            phase = await _next(journey, step, failed)
            failed = failed or phase.state == "failed"
            enter(phase)
    except asyncio.CancelledError:
        for step in steps[len(report.phases) :]:
            if step.leftover is not None:
                enter(await _next(journey, step, failed=True))
        raise
    return report


async def _next(journey: Journey, step: Step, failed: bool) -> Phase:
    if step.leftover is not None:
        if not step.leftover(journey):
            return Phase(
                step.name, step.title, "not run" if failed else "skipped", detail="nothing to clean up"
            )
    elif failed:
        return Phase(step.name, step.title, "not run")
    reason = step.skip(journey)
    return Phase(step.name, step.title, "skipped", detail=reason) if reason else await attempt(journey, step)


async def attempt(journey: Journey, step: Step) -> Phase:
    """One step with its deadline; a failure comes with reason and evidence, both without secrets."""
    journey.news.clear()
    began = time.monotonic()
    state: State = "ok"
    detail, why = "", ""
    shown: tuple[str, ...] = ()
    try:
        async with asyncio.timeout(step.deadline):
            detail = await step.do(journey)
    except PhaseFailed as failure:
        state, why, shown = "failed", failure.why, failure.evidence
    except TimeoutError:
        state, why = "failed", f"took longer than {step.deadline:g} s"
    seconds = time.monotonic() - began
    scrub = journey.target.scrub
    evidence = () if state == "ok" else (*shown, *_from_logs(journey, step))
    return Phase(
        step.name,
        step.title,
        state,
        seconds,
        detail=scrub(detail),
        why=scrub(why),
        news=tuple(scrub(message) for message in journey.news),
        evidence=tuple(dict.fromkeys(scrub(line) for line in evidence)),
    )


def _from_logs(journey: Journey, step: Step) -> list[str]:
    words = [word for word in (journey.user, journey.cluster) if word]
    return journey.target.logs.matter(step.logs, words)
