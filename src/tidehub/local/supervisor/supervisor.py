"""Starts the parts in order of readiness, keeps them running, stops them in reverse order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.local.secrets import Secret
from tidehub.local.supervisor.pace import Backoff
from tidehub.local.supervisor.part import Part, PartState, PartStatus
from tidehub.local.supervisor.platform import Component
from tidehub.local.supervisor.process import become_subreaper, reap
from tidehub.secrets.redaction import Redactor

_REAP_INTERVAL = 5.0


class Supervisor:
    """The parts of one platform. Use in the main thread of the process, inside one event loop."""

    def __init__(
        self,
        components: Sequence[Component],
        *,
        logs: Path,
        secrets: Iterable[Secret] = (),
        on_change: Callable[[], None] = lambda: None,
        tell: Callable[[str], None] = lambda text: None,
        backoff: Callable[[], Backoff] = Backoff,
    ) -> None:
        check_order(components)
        self._own: dict[int, subprocess.Popen[bytes]] = {}
        self._tell = tell
        self._redact = redact = Redactor(secrets)
        self._parts = {
            component.name: Part(
                component,
                log=logs / f"{component.name}.log",
                redact=redact,
                backoff=backoff(),
                report=on_change,
                tell=tell,
                own=self._own,
            )
            for component in components
        }
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._reaper: asyncio.Task[None] | None = None
        self._hurried = False
        self._left_alone = 0

    def parts(self) -> list[PartStatus]:
        """Every part, in the order given."""
        return [part.status() for part in self._parts.values()]

    @property
    def all_ready(self) -> bool:
        return all(part.ready.is_set() for part in self._parts.values())

    async def start(self, progress: Callable[[str], None] = lambda text: None) -> None:
        """Start all; returns when all are ready. Raises `StartFailed` (then call `stop`)."""
        self._begin_reaping()
        for name, part in self._parts.items():
            self._tasks[name] = asyncio.create_task(part.keep(self._parts), name=f"keep {name}")
        readiness = {
            asyncio.create_task(part.first_ready.wait(), name=f"ready {name}")
            for name, part in self._parts.items()
        }
        try:
            while readiness:
                # Parts that were waiting for the last one begin in the loop's next round.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                waiting = [name for name, part in self._parts.items() if not part.first_ready.is_set()]
                begun = [name for name in waiting if self._parts[name].state is PartState.STARTING]
                progress(", ".join(begun or waiting))
                done, _ = await asyncio.wait(
                    readiness | set(self._tasks.values()), return_when=asyncio.FIRST_COMPLETED
                )
                for task in self._tasks.values():
                    if task in done:
                        task.result()
                readiness -= {task for task in done if task in readiness}
        finally:
            for waiter in readiness:
                waiter.cancel()

    def changed_by(self, components: Sequence[Component], named: Iterable[str]) -> list[str]:
        """The parts that start anew when the platform becomes `components`: those `named`, and those whose process
        would be another one. In the order in which they start.
        """
        wanted, after = set(named), {one.name: set(one.after) for one in components}
        wanted |= {one.name for one in components if one.starts_otherwise(self._parts[one.name].component)}
        return [name for name in TopologicalSorter(after).static_order() if name in wanted]

    async def renew(
        self,
        components: Sequence[Component],
        names: Sequence[str],
        *,
        secrets: Iterable[Secret] = (),
        progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Start the parts `names` anew by what `components` say of them, one after another; all others go on, and
        their next start is by the new words. Raises `StartFailed` when one does not come up.
        """
        self._redact.add(secrets)
        found = {one.name: one for one in components}
        for name, part in self._parts.items():
            if name not in names:
                part.component = found[name]
        for name in names:
            progress(name)
            await self._parts[name].renew(found[name])

    async def failed(self) -> None:
        """Wait for ever, unless the supervisor itself breaks; then raise what broke it."""
        done, _ = await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    async def stop(self) -> bool:
        """Stop all, those that stand on others first. True when none had to be killed."""
        below = {name: set(part.component.after) for name, part in self._parts.items()}
        above = {name: {other for other, needs in below.items() if name in needs} for name in below}
        order = TopologicalSorter(above)
        order.prepare()
        willing = not self._hurried
        while order.is_active():
            names = order.get_ready()
            results = await asyncio.gather(*(self._stop_one(name) for name in names))
            willing = willing and all(results)
            order.done(*names)
        if self._reaper is not None:
            self._reaper.cancel()
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
        reap(self._own)
        become_subreaper(False)
        return willing and not self._hurried

    def hurry(self) -> None:
        """Kill every part at once; `stop` then returns soon."""
        self._hurried = True
        for part in self._parts.values():
            part.kill()

    async def _stop_one(self, name: str) -> bool:
        part, task = self._parts[name], self._tasks.get(name)
        if self._hurried:
            part.kill()
        willing = await part.stop()
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        return willing

    @contextlib.contextmanager
    def leaving_children(self) -> Iterator[None]:
        """Collect no ended children that may be somebody else's: a thread runs programs meanwhile, and waits for them
        itself. One that is collected here would seem to have ended well there.
        """
        self._left_alone += 1
        try:
            yield
        finally:
            self._left_alone -= 1
            self._reap()

    def _reap(self) -> None:
        if not self._left_alone:
            reap(self._own)

    def _begin_reaping(self) -> None:
        if not become_subreaper():
            self._tell("the kernel refuses to hand orphaned processes to the supervisor")

        async def sometimes() -> None:
            while True:
                await asyncio.sleep(_REAP_INTERVAL)
                self._reap()

        # Outside the main thread no signal can be caught; then the timer alone does it.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)
        self._reaper = asyncio.create_task(sometimes(), name="reap orphans")


def check_order(components: Sequence[Component]) -> None:
    """Raise `TidehubError` unless names are unique, `after` names parts, and no part waits for itself."""
    names = [component.name for component in components]
    if len(set(names)) != len(names):
        raise TidehubError(f"two parts have the same name: {', '.join(sorted(names))}")
    for component in components:
        for needed in component.after:
            if needed not in names:
                raise TidehubError(
                    f"{component.name} starts after {needed}, which is not a part of the platform"
                )
    try:
        TopologicalSorter({component.name: set(component.after) for component in components}).prepare()
    except CycleError as error:
        raise TidehubError(f"parts wait for each other: {' -> '.join(error.args[1])}") from error
