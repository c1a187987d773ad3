"""Many users at once: each logs in, starts a server and runs a cell, while a stranger looks at the login page.

What a class does at the beginning of its lesson. Used by `bench/run` and by tests/real.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx

from tidehub.checks import server
from tidehub.checks.browser import Browser
from tidehub.checks.journey import Journey
from tidehub.checks.login import sign_in
from tidehub.checks.report import PhaseFailed
from tidehub.checks.target import Account, Target

STRANGER = Path(__file__).with_name("stranger.py")
PATIENCE = 600.0
"""Seconds for all of it, after which whoever has no result counts as failed."""


@dataclass
class Served:
    """One user: seconds from the crowd's beginning until each thing was there, or what failed."""

    name: str
    login: float | None = None
    server: float | None = None
    cell: float | None = None
    failure: str = ""


@dataclass
class Crowd:
    """What came of it. Times in seconds."""

    users: list[Served]
    login_page: list[float] = field(default_factory=list)
    """How long the login page took the stranger, each time."""
    login_page_failures: list[str] = field(default_factory=list)

    @property
    def served(self) -> list[Served]:
        """Who ran a cell."""
        return [user for user in self.users if user.cell is not None]

    @property
    def failures(self) -> list[str]:
        """What failed, each once, the stranger's too."""
        return sorted({user.failure for user in self.users if user.failure} | set(self.login_page_failures))

    def times(self, what: str) -> list[float]:
        """Until `login`, `server` or `cell`, of all who got that far, in order."""
        return sorted(seconds for user in self.users if isinstance(seconds := getattr(user, what), float))


async def crowd(target: Target, accounts: Sequence[Account], profile: str | None = None) -> Crowd:
    """All `accounts` at once at the platform of `target`, each with a server of `profile`; stops them afterwards."""
    result = Crowd([Served(account.name) for account in accounts])
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_on_another_machine())
        journeys = []
        for account in accounts:
            browser = await stack.enter_async_context(Browser(target.address))
            journeys.append(Journey(target, browser, profile=profile, user=account.name))
        with _stranger(f"{target.address}hub/login") as said:
            began = time.monotonic()
            await asyncio.gather(
                *(
                    _one(journey, account, served, began)
                    for journey, account, served in zip(journeys, accounts, result.users, strict=True)
                )
            )
        result.login_page, result.login_page_failures = _heard(said)
        await asyncio.gather(*(_leave(journey) for journey in journeys))
    return result


async def _one(journey: Journey, account: Account, served: Served, began: float) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            await sign_in(journey.browser, account)
            served.login = time.monotonic() - began
            await server.start_server(journey)
            await server.open_lab(journey)
            served.server = time.monotonic() - began
            await server.start_kernel(journey)
            await server.run_cell(journey)
            served.cell = time.monotonic() - began
    except (PhaseFailed, httpx.HTTPError, TimeoutError) as error:
        served.failure = str(error) or type(error).__name__


async def _leave(journey: Journey) -> None:
    if journey.server_started:
        with contextlib.suppress(PhaseFailed, httpx.HTTPError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await server.stop_server(journey)


@contextmanager
def _on_another_machine() -> Iterator[None]:
    """Browsers run elsewhere, and wait for no processor of this machine; only root can have it so here.

    By real time, because niceness counts among processes of one session and control group alone (sched(7), autogroup).
    """
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


@contextmanager
def _stranger(url: str) -> Iterator[list[str]]:
    """Somebody without an account, in a process of their own: what keeps the crowd's browsers busy keeps them not.

    The list is filled with the lines that they said when the context is left.
    """
    said: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-I", str(STRANGER), url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            first = _pipe(
                process.stdout
            ).readline()  # their first look, so that no start of Python is counted
            yield said
        except BaseException:
            process.kill()
            raise
        _pipe(process.stdin).close()
        said += [first, *_pipe(process.stdout)]


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _heard(said: Sequence[str]) -> tuple[list[float], list[str]]:
    looks = [json.loads(line) for line in said]
    return [look["seconds"] for look in looks if not look["failure"]], [
        f"login page: {look['failure']}" for look in looks if look["failure"]
    ]
