"""Changing a platform that runs, as the supervisor does it: some parts start anew, or it becomes another program.

Users' servers and clusters are no children of the parts, and their ports stay open meanwhile. `tidehub.local.applying`
decides which of the two it takes; here it is carried out, and taken back where the new parts do not come up.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from tidehub import program
from tidehub.errors import TidehubError
from tidehub.local.places import Places, command
from tidehub.local.supervisor.platform import Platform
from tidehub.local.supervisor.supervisor import Supervisor
from tidehub.saying import Quiet
from tidehub.system.files import read_private, write_private

TIDY = 3600.0
"""Seconds between two looks for what is of no use any more; there is also one after each change."""
SUCCEEDS = "TIDEHUB_SUCCEEDS"
"""Set for a program that takes the place of a running platform's supervisor."""


@dataclass(frozen=True)
class Successor:
    """The program that this process becomes when its parts have ended: `tidehub up` of the same state.

    The process stays, and with it its number, its terminal or log, its unit of systemd, and the line to the holder.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    """Variables that it gets beside ours."""

    @classmethod
    def of(cls, request: Mapping[str, Any]) -> Successor:
        """Raises `TidehubError` for one that could not be started: then nothing may be stopped for it."""
        argv, env = _texts(request.get("argv")), request.get("env")
        if not argv or not isinstance(env, dict) or len(_texts([*env, *env.values()])) != 2 * len(env):
            raise TidehubError("what should go on with the state is not a program with arguments")
        if not os.access(argv[0], os.X_OK) or not Path(argv[0]).is_absolute():
            raise TidehubError(f"{argv[0]} cannot be run, so nothing is stopped for it")
        return cls(argv, env)

    @classmethod
    def former(cls, places: Places) -> Successor | None:
        """What runs again when this program, which took another one's place, cannot start; None where it did not."""
        if os.environ.pop(SUCCEEDS, None) is None:
            return None
        try:
            return cls.of(json.loads(read_private(places.former) or "{}"))
        except (TidehubError, ValueError):
            return None

    def with_former(self, places: Places, serves: Mapping[str, Any]) -> Successor:
        """The same, after what this process serves was written down, so that it can be gone back to. Raises
        `TidehubError` when it cannot be written: then nothing may be stopped.
        """
        argv = [sys.executable, "-I", "-m", "tidehub.local.former", str(places.state)]
        content = {"argv": argv, "env": {}, "serves": dict(serves)}
        write_private(places.former, json.dumps(content, indent=1) + "\n")
        return replace(self, env={**self.env, SUCCEEDS: "1"})

    def become(self) -> NoReturn:
        """Does not return. Raises `TidehubError` when the program cannot be started after all."""
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            os.execve(self.argv[0], list(self.argv), {**os.environ, **self.env})
        except OSError as error:
            raise TidehubError(
                f"{self.argv[0]} cannot be started: {error.strerror}",
                expected="to go on with the state; the parts are stopped, users' servers and clusters are not",
                fix=f"run: {program.command('up')}",
            ) from error


def read_former(places: Places) -> Mapping[str, Any]:
    """What the program before this one served, as `Platform.serves`. Raises `TidehubError`."""
    try:
        found = json.loads(read_private(places.former) or "{}")["serves"]
        return {"site": dict(found["site"]), "options": dict(found["options"])}
    except (ValueError, KeyError, TypeError) as error:
        raise TidehubError(
            f"{places.former} does not say what was served: {error!r}",
            fix=f"run: {command(places.state, 'up')}",
        ) from error


def _texts(found: object) -> list[str]:
    """A list of texts that execve(2) takes; empty for anything else."""
    if not isinstance(found, list) or not all(isinstance(one, str) and "\0" not in one for one in found):
        return []
    return found


async def tidy_now_and_then(
    platform: Callable[[], Platform], wake: asyncio.Event, tell: Callable[[str], None]
) -> None:
    """Remove what the platform has no use for, now, whenever `wake` is set, and every hour; until cancelled."""
    while True:
        wake.clear()
        try:
            for text in await _in_background(platform().tidy):
                tell(text)
        except Exception as error:
            tell(f"old software was not removed: {error!r}")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wake.wait(), TIDY)


async def _in_background(work: Callable[[], Sequence[str]]) -> Sequence[str]:
    """The result of `work`, done in a thread of lowest priority that ends with the process, whatever it does then."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Sequence[str]] = loop.create_future()

    def settle(result: Sequence[str] | None, error: Exception | None) -> None:
        if not done.done():
            done.set_result(result or ()) if error is None else done.set_exception(error)

    def run() -> None:
        # On Linux the "process" of setpriority(2) is a thread.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        found, error = None, None
        try:
            found = work()
        except Exception as caught:
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, found, error)

    threading.Thread(target=run, name="tidy up", daemon=True).start()
    return await done


class _Thread(Quiet):
    """What the composition says in its thread, said in the loop."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._tell = tell

    def note(self, text: str) -> None:
        self._loop.call_soon_threadsafe(self._tell, text)

    def warn(self, text: str) -> None:
        self.note(f"warning: {text}")


async def change(
    platform: Platform,
    supervisor: Supervisor,
    request: Mapping[str, Any],
    *,
    tell: Callable[[str], None],
    progress: Callable[[str], None],
) -> tuple[Platform, list[str]]:
    """Serve what `request` says: `serves` (as `Platform.serves`) by restarting `parts` and those whose start differs.

    Returns the platform that runs then and the parts that started anew. Raises `TidehubError` when it cannot be served;
    then the parts have been told what they knew before, and those that had been stopped serve it again.
    """
    again, wanted, parts = platform.again, request.get("serves"), request.get("parts", [])
    if again is None or not isinstance(wanted, dict) or not isinstance(parts, list):
        raise TidehubError("this platform cannot be changed while it runs")
    said = _Thread(tell)
    names: list[str] = []
    try:
        with supervisor.leaving_children():
            changed = await asyncio.to_thread(again, wanted, said)
        if {one.name for one in changed.components} != {part.name for part in supervisor.parts()}:
            raise TidehubError(
                "the changed platform has other parts",
                fix=f"run `{program.command('down', '--keep')}`, then `up`",
            )
        names = supervisor.changed_by(changed.components, parts)
        await supervisor.renew(changed.components, names, secrets=changed.secrets, progress=progress)
        return changed, names
    except Exception as error:
        tell(f"not changed, and rolled back: {error}")
        former = platform
        try:
            with supervisor.leaving_children():
                former = await asyncio.to_thread(again, platform.serves, said)
        except Exception as failed:
            # A disk that is full by now: what was stopped runs again all the same, by what it finds.
            tell(f"what the parts were told is not all written back: {failed}")
        await supervisor.renew(former.components, names, progress=progress)
        raise
