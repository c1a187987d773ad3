"""Keeps one part running: start, wait until it answers, watch, kill what hangs, start again."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.local.logs.rotating import RotatingLog
from tidehub.local.supervisor.pace import Backoff, Look, Pace, Patience, judge
from tidehub.local.supervisor.platform import Check, Component, Ready
from tidehub.local.supervisor.process import Process, lines_that_matter
from tidehub.system.processes import start_ticks

READINESS_INTERVAL = 0.1
READINESS_TIMEOUT = 10.0
DEPENDENCY_PATIENCE = 30.0
"""Seconds that a restart waits for the parts below; after them it tries anyway."""


class PartState(enum.StrEnum):
    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class PartStatus:
    """What one part is doing. `since`: epoch seconds; `why`: the reason of the last trouble, or empty."""

    name: str
    state: str
    pid: int | None
    started: int | None
    """The start of `pid` in clock ticks since boot."""
    restarts: int
    since: float
    why: str
    log: str


class StartFailed(TidehubError):
    """A part did not come up at the first start."""


class Part:
    """One part's life. `report` is called after every change, `tell` with what a user should read."""

    def __init__(
        self,
        component: Component,
        *,
        log: Path,
        redact: Callable[[bytes], bytes],
        backoff: Backoff,
        report: Callable[[], None],
        tell: Callable[[str], None],
        own: dict[int, subprocess.Popen[bytes]],
    ) -> None:
        self.component = component
        self.state = PartState.WAITING
        self.since = time.time()
        self.restarts = 0
        self.why = ""
        self.first_ready = asyncio.Event()
        self.ready = asyncio.Event()
        self.log_path = log
        self._log = RotatingLog(log)
        self._redact = redact
        self._backoff = backoff
        self._report = report
        self._tell = tell
        self._own = own
        self._process: Process | None = None
        self._stopping = False
        self._renewal: asyncio.Future[None] | None = None
        self._replaced: Process | None = None
        """The process that `renew` ended: its end is not a failure."""

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.running else None

    def status(self) -> PartStatus:
        """What it is doing now."""
        return PartStatus(
            name=self.component.name,
            state=self.state.value,
            pid=self.pid,
            started=None if self.pid is None else start_ticks(self.pid),
            restarts=self.restarts,
            since=self.since,
            why=self.why,
            log=str(self.log_path),
        )

    async def keep(self, below: Mapping[str, Part]) -> None:
        """Run until cancelled or `stop`. Raises `StartFailed` when the first start does not succeed."""
        for name in self.component.after:
            await below[name].first_ready.wait()
        alongside = self._begin_alongside()
        try:
            while True:
                started = time.monotonic()
                problem = await self._one_run(below)
                self.ready.clear()
                if self._stopping:
                    return
                if self._replaced is not None and self._replaced is self._process:
                    self._replaced = None
                    continue
                if self._renewal is not None and not self._renewal.done():
                    self._renewal.set_exception(self._start_failed(problem))
                if not self.first_ready.is_set():
                    self._become(PartState.FAILED, problem)
                    raise self._start_failed(problem)
                delay = self._backoff.after(time.monotonic() - started)
                self._become(PartState.RESTARTING, problem)
                self._tell(f"{self.component.name}: {problem}; starting again in {delay:g} s")
                await asyncio.sleep(delay)
                await self._await_below(below)
                self.restarts += 1
        finally:
            if alongside is not None:
                alongside.cancel()

    async def stop(self) -> bool:
        """End it: signal, deadline, kill. True when it ended by itself in time."""
        self._stopping = True
        willing = await self._end()
        self._become(PartState.STOPPED, "")
        self._log.close()
        return willing

    async def renew(self, component: Component) -> None:
        """Start it anew as `component` says, and return when it is ready. Raises `StartFailed` when the first start
        does not succeed; further ones follow all the same.
        """
        self._renewal = asyncio.get_running_loop().create_future()
        try:
            # Before the end of the old process, after which the next one starts at once.
            self.component = component
            self._replaced = self._process if self.pid is not None else None
            await self._end()
            await self._renewal
        finally:
            self._renewal = None

    async def _end(self) -> bool:
        self.ready.clear()
        process, willing = self._process, True
        if process is not None and process.running:
            self._become(PartState.STOPPING, "")
            process.signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.ended(), self.component.stop_timeout)
            except TimeoutError:
                willing = False
                self._tell(f"{self.component.name}: did not end in {self.component.stop_timeout:g} s; killed")
                process.kill()
                await process.ended()
        return willing

    def kill(self) -> None:
        """End it now."""
        self._stopping = True
        if self._process is not None:
            self._process.kill()

    async def _one_run(self, below: Mapping[str, Part]) -> str:
        """One process from start to end; returns why it is over."""
        component = self.component
        self._become(PartState.STARTING, self.why)
        try:
            # So that the log is there from the start, also for a part that says nothing.
            self._log.write(b"")
            if component.before_start is not None:
                await component.before_start()
            if self._stopping:
                return "stopped"
            process = await Process.start(component, self._log, self._redact, self._born)
        except (OSError, TidehubError) as error:
            return f"cannot be started: {error}"
        self._process = process
        try:
            if self._stopping:
                return "stopped"
            problem = await self._until_ready(process)
            if problem is None:
                await self._announce()
                problem = await self._until_over(process, below)
            return problem
        finally:
            if process.running:
                process.kill()
                await process.ended()
            self._own.pop(process.pid, None)

    async def _until_ready(self, process: Process) -> str | None:
        ready = self.component.ready
        ended = asyncio.create_task(process.ended())
        patience, told = Patience(process.pid, self.component.start_timeout), False
        answer = Ready(False, "no answer yet")
        try:
            while not ended.done():
                answer = await ask_while_it_runs(ended, ready, READINESS_TIMEOUT)
                if answer.ok and not ended.done():
                    return None
                if patience.spent():
                    return f"not ready after {patience.elapsed:.0f} s: {answer.why}"
                if patience.beyond and patience.why:
                    self._note(f"still starting: {patience.why}")
                    if not told:
                        told = True
                        self._tell(f"{self.component.name}: starts slowly, and is waited for: {patience.why}")
                await asyncio.wait({ended}, timeout=READINESS_INTERVAL)
            return ended.result()
        finally:
            ended.cancel()

    async def _until_over(self, process: Process, below: Mapping[str, Part]) -> str:
        probe = self.component.probe
        ended = asyncio.create_task(process.ended())
        failed = 0
        try:
            while probe is not None:
                await asyncio.wait({ended}, timeout=probe.interval)
                if ended.done():
                    return ended.result()
                if not all(below[name].ready.is_set() for name in self.component.after):
                    failed = 0
                    continue
                before = Look.at_process(process.pid)
                answer = await ask_while_it_runs(ended, probe.check or self.component.ready, probe.timeout)
                if ended.done():
                    return ended.result()
                if answer.ok:
                    failed = 0
                    self._note("")
                    continue
                after = Look.at_process(process.pid)
                pace, why = judge(before, after, late=after.at - before.at - probe.timeout)
                if pace is Pace.STARVED:
                    self._note(f"slow, the machine is busy: {why}")
                    continue
                failed += 1
                most = probe.most(pace)
                self._note(f"{failed} of {most} probes failed: {answer.why}{f' ({why})' if why else ''}")
                if failed >= most:
                    return f"hung: {failed} probes failed, the last one: {answer.why}"
            return await asyncio.shield(ended)
        finally:
            ended.cancel()

    async def _announce(self) -> None:
        again = self.first_ready.is_set()
        self._become(PartState.READY, "")
        self.ready.set()
        self.first_ready.set()
        if self._renewal is not None and not self._renewal.done():
            self._renewal.set_result(None)
        if again:
            self._tell(f"{self.component.name}: ready again")
            if self.component.on_restart is not None:
                try:
                    await self.component.on_restart()
                except Exception as error:
                    self._tell(
                        f"{self.component.name}: its follow-up work after the restart failed: {error!r}"
                    )

    async def _await_below(self, below: Mapping[str, Part]) -> None:
        waiting = [below[name].ready.wait() for name in self.component.after]
        if waiting:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.gather(*waiting), DEPENDENCY_PATIENCE)

    def _begin_alongside(self) -> asyncio.Task[None] | None:
        work = self.component.alongside
        if work is None:
            return None

        async def forever() -> None:
            while True:
                try:
                    await work()
                    return
                except Exception as error:
                    self._tell(f"{self.component.name}: the work alongside failed: {error!r}")
                    await asyncio.sleep(self._backoff.most)

        return asyncio.create_task(forever(), name=f"alongside {self.component.name}")

    def _start_failed(self, problem: str) -> StartFailed:
        lines = lines_that_matter(self._process.lines) if self._process is not None else []
        shown = "".join(f"\n    {line}" for line in lines)
        return StartFailed(
            f"{self.component.name} did not start: {problem}{shown}",
            fix=f"the full log is in {self.log_path}",
        )

    def _born(self, popen: subprocess.Popen[bytes]) -> None:
        self._own[popen.pid] = popen

    def _become(self, state: PartState, why: str) -> None:
        if state is not self.state:
            self.since = time.time()
        self.state, self.why = state, why
        self._report()

    def _note(self, why: str) -> None:
        if why != self.why:
            self.why = why
            self._report()


async def ask_while_it_runs(ended: asyncio.Task[str], check: Check, timeout: float) -> Ready:
    """As `ask`, but given up when the process ends: what waits in the backlog of its socket is not answered then."""
    asking = asyncio.create_task(ask(check, timeout))
    try:
        await asyncio.wait({asking, ended}, return_when=asyncio.FIRST_COMPLETED)
        return asking.result() if asking.done() else Ready(False, "it ended")
    finally:
        asking.cancel()


async def ask(check: Check, timeout: float) -> Ready:
    """The answer of `check`, where a timeout or an exception is a "no" with its reason."""
    try:
        return await asyncio.wait_for(check(), timeout)
    except TimeoutError:
        return Ready(False, f"no answer in {timeout:g} s")
    except Exception as error:
        return Ready(False, f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
