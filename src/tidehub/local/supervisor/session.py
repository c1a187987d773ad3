"""One run of `tidehub up`: prepare, start, say so, wait, stop.

Exit codes: 0 after a clean stop of a running platform, however it was asked for (Ctrl-C, SIGTERM, `down`);
130 when it was asked for before all was ready; 1 when something had to be killed or could not be ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict
from typing import Any

from tidehub import __version__
from tidehub.errors import FAILED, INTERRUPTED, TidehubError
from tidehub.local.logs.rotating import RotatingLog, outputs_to
from tidehub.local.places import Places, command
from tidehub.local.room import give_reserve_back, keep_reserve, report, require_room, shortage
from tidehub.local.supervisor.changing import SUCCEEDS, Successor, change, tidy_now_and_then
from tidehub.local.supervisor.detach import stop_signals, stop_signals_interrupt
from tidehub.local.supervisor.holder import anything_runs
from tidehub.local.supervisor.last_up import remember
from tidehub.local.supervisor.platform import LoggedSay, Platform, Prepare, Say
from tidehub.local.supervisor.state import (
    KEPT,
    Answer,
    ControlServer,
    PlatformState,
    Publisher,
    forget_state,
    hold,
    own_state,
    read_state,
    write_state,
)
from tidehub.local.supervisor.supervisor import Supervisor
from tidehub.system.notify import STOPPING, notify

USERS_GRACE = 10.0
"""Seconds that users' servers and clusters get to end by themselves."""
USERS_DEADLINE = 30.0
"""Seconds after which their end is no longer waited for."""
OBSERVE_TIMEOUT = 5.0
LOOK = 5.0
"""Seconds between two looks at the size of the own log and at the disk."""

_NOT_SHOWN = ("extra", "started", "groups")


def run(places: Places, prepare: Prepare, say: Say, on_ready: Callable[[Platform], None]) -> int:
    """Hold the state, run the platform until it is asked to stop; returns the exit code.

    `places.ensure()` must have been called. Raises `Locked`, and `TidehubError` for everything foreseen.
    """
    with hold(places.lock) as lock:
        session = _Session(places, say, on_ready)
        try:
            code = session.run(prepare)
        except Exception:
            if SUCCEEDS in os.environ:  # what was served before goes on
                lock.hand_on()
            raise
        if session.successor is not None:
            lock.hand_on()
    if session.successor is not None:
        session.successor.become()
    return code


class _Session:
    def __init__(self, places: Places, say: Say, on_ready: Callable[[Platform], None]) -> None:
        self._places = places
        self._say = say
        self._on_ready = on_ready
        self._log = RotatingLog(places.supervisor_log, outputs=outputs_to(places.supervisor_log))
        self._since = time.time()
        self._phase = "preparing"
        self._platform: Platform | None = None
        self._supervisor: Supervisor | None = None
        self._published = Publisher()
        self._write_due = False
        self._leaving = False
        self._changing: asyncio.Task[None] | None = None
        self._remembered: Mapping[str, Any] = {}
        self.successor: Successor | None = None
        """What goes on with the state when this run is over."""

    def run(self, prepare: Prepare) -> int:
        before = self._state_before()
        self._tell_log(f"tidehub {__version__} starts")
        with contextlib.suppress(TidehubError):
            keep_reserve(self._places)
        self._write_state()
        try:
            with stop_signals_interrupt():
                platform = prepare(LoggedSay(self._say, self._tell_log))
        except BaseException as error:
            self._put_back(before)
            if isinstance(error, KeyboardInterrupt):
                self._say.note(
                    f"Interrupted. The next `{command(self._places.state, 'up')}` goes on from here."
                )
                return INTERRUPTED
            self._tell_log(f"not started: {error}")
            raise
        self._platform = platform
        self._nothing_runs = False
        with asyncio.Runner() as runner:
            try:
                return runner.run(self._go(platform))
            except TidehubError as error:
                self._put_back(before)
                self._tell_log(f"not started: {error}")
                raise
            finally:
                if self.successor is not None:
                    platform.hand_over()
                platform.after_stop(self._nothing_runs)
                self._log.close()

    async def _go(self, platform: Platform) -> int:
        self._untidy = asyncio.Event()
        self._asked = asyncio.Event()
        self._hurried = asyncio.Event()
        self._supervisor = supervisor = Supervisor(
            platform.components,
            logs=self._places.logs,
            secrets=platform.secrets,
            on_change=self._changed,
            tell=self._tell,
        )
        control = ControlServer(self._places.control, self._answer)
        await control.open()
        loop = asyncio.get_running_loop()
        for number in stop_signals():
            loop.add_signal_handler(number, self._signalled)
        self._phase = "starting"
        self._changed()
        asked = asyncio.create_task(self._asked.wait(), name="asked to stop")
        start = asyncio.create_task(supervisor.start(self._progress), name="start")
        watch = asyncio.create_task(self._watch(), name="watch the log and the disk")
        try:
            await asyncio.wait({start, asked}, return_when=asyncio.FIRST_COMPLETED)
            if self._asked.is_set():
                start.cancel()
                await asyncio.wait({start})
                await self._end(platform, supervisor)
                return INTERRUPTED
            if start.exception() is not None:
                self._say.step("stopping what was started")
                await supervisor.stop()
                start.result()
            self._running(platform)
            tidying = asyncio.create_task(
                tidy_now_and_then(lambda: self._platform or platform, self._untidy, self._tell_log),
                name="tidy up",
            )
            broken = asyncio.create_task(supervisor.failed(), name="broken")
            await asyncio.wait({broken, asked}, return_when=asyncio.FIRST_COMPLETED)
            clean = await self._end(self._platform or platform, supervisor)
            if broken.done() and not self._asked.is_set():
                broken.result()
            broken.cancel()
            tidying.cancel()
            return 0 if clean else FAILED
        finally:
            asked.cancel()
            watch.cancel()
            await control.close()

    async def _watch(self) -> None:
        short = ""
        while True:
            # A daemon's own output goes to the same file, past `_log`, which rotates it by its real size.
            self._log.write(b"")
            with contextlib.suppress(TidehubError):
                had = self._places.reserve.exists()
                if not keep_reserve(self._places) and had:
                    self._tell("the disk is full: the reserve is given back")
                now = shortage(self._places)
                if bool(now) != bool(short):
                    self._tell(now or "the disk has room again: servers and clusters can be started")
                short = now
            await asyncio.sleep(LOOK)

    def _running(self, platform: Platform) -> None:
        # What fails from now on is no reason to go back to what another program served.
        os.environ.pop(SUCCEEDS, None)
        self._phase = "running"
        self._since = time.time()
        self._changed()
        self._tell_log(f"ready at {platform.address}")
        self._on_ready(platform)

    async def _end(self, platform: Platform, supervisor: Supervisor) -> bool:
        self._phase = "stopping"
        self._changed()
        if self._changing is not None:
            self._changing.cancel()
            await asyncio.wait({self._changing})
        if self.successor is None:
            notify(STOPPING)
        clean = True
        if not self._leaving:
            self._announce("stopping users' servers and clusters")
            self._nothing_runs = clean = await self._end_users(platform)
        if give_reserve_back(self._places):
            self._tell("the disk is full: the reserve is given back")
        self._announce("stopping the parts")
        clean = await supervisor.stop() and clean
        if self._leaving and anything_runs(self._places.users):
            # Until the next start, or until `down` ends them, this says whose they are.
            self._phase = KEPT
            self._write_state()
        elif clean:
            forget_state(self._places.platform)
            self._places.remove_run()
        else:
            self._write_state()
        self._tell_log("stopped" if clean else "stopped, not cleanly")
        self._published.publish({"done": True, "clean": clean})
        return clean

    async def _end_users(self, platform: Platform) -> bool:
        ending = asyncio.ensure_future(platform.before_stop(USERS_GRACE))
        hurried = asyncio.create_task(self._hurried.wait())
        try:
            await asyncio.wait({ending, hurried}, timeout=USERS_DEADLINE, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                ending.cancel()
                await asyncio.wait({ending})
                await asyncio.wait_for(platform.before_stop(0.0), USERS_GRACE)
            else:
                ending.result()
            return True
        except Exception as error:
            self._tell(f"users' servers and clusters could not all be ended: {error!r}")
            return False
        finally:
            hurried.cancel()

    def _signalled(self) -> None:
        # Whoever sends it wants the end of this process, whatever was to come after it.
        self.successor = None
        self._ask_to_stop()

    def _ask_to_stop(self) -> None:
        if not self._asked.is_set():
            self._asked.set()
            return
        if not self._hurried.is_set():
            self._tell("everything is killed now")
            self._hurried.set()
            if self._supervisor is not None:
                self._supervisor.hurry()

    async def _answer(self, request: Mapping[str, object]) -> AsyncIterator[Answer]:
        match request.get("do"):
            case "status":
                yield {"ok": True, "status": await self._status()}
            case "ping":
                yield {"ok": True}
            case "serves":
                serves = self._platform.serves if self._platform else {}
                yield {
                    "ok": True,
                    "phase": self._phase,
                    "serves": serves,
                    "changing": self._changing is not None,
                }
            case "stop" | "leave" as word:
                if not self._asked.is_set():
                    self._leaving = word == "leave"
                    self._ask_to_stop()
                elif word == "stop":
                    self.successor = None
                if request.get("hurry"):
                    self._ask_to_stop()
                async for answer in self._published.follow("done"):
                    yield answer
            case "replace" | "apply" as word:
                if self._phase != "running" or self._changing is not None:
                    now = "being changed" if self._changing else self._phase
                    yield {
                        "ok": False,
                        "error": f"the platform is {now}; run the command again when that is over",
                    }
                    return
                try:
                    require_room(self._places)
                    if word == "replace":
                        serves = self._platform.serves if self._platform else {}
                        self.successor = Successor.of(request).with_former(self._places, serves)
                        self._leaving = True
                        self._ask_to_stop()
                    else:
                        self._changing = asyncio.create_task(self._change(request), name="change")
                except TidehubError as error:
                    yield {"ok": False, "error": str(error)}
                    return
                async for answer in self._published.follow("done" if word == "replace" else "changed"):
                    yield answer
            case other:
                yield {"ok": False, "error": f"unknown request {other!r}"}

    async def _change(self, request: Mapping[str, object]) -> None:
        """Goes on when whoever asked for it has gone."""
        assert self._platform is not None and self._supervisor is not None
        try:
            self._platform, names = await change(
                self._platform,
                self._supervisor,
                request,
                tell=self._tell,
                progress=lambda name: self._announce(f"restarting {name}"),
            )
            self._tell_log(f"changed: {', '.join(names) or 'no part'} started anew")
            self._published.publish({"changed": True, "parts": names})
        except TidehubError as error:
            self._published.publish({"changed": False, "error": str(error)})
        except Exception as error:
            self._tell_log(f"the change failed: {error!r}")
            self._published.publish({"changed": False, "error": f"an unexpected error: {error!r}"})
        finally:
            self._changing = None
            self._untidy.set()
            self._changed()

    async def _status(self) -> dict[str, object]:
        content = self._state_now()
        supervisor, platform = self._supervisor, self._platform
        observed: Mapping[str, object] = {}
        if platform is not None and self._phase == "running":
            try:
                observed = await asyncio.wait_for(platform.observe(), OBSERVE_TIMEOUT)
            except Exception as error:
                observed = {"not_observed": str(error) or type(error).__name__}
        return {
            **{name: value for name, value in content.__dict__.items() if name not in _NOT_SHOWN},
            "uptime": max(0.0, time.time() - self._since),
            "state_dir": str(self._places.state),
            "disk": report(self._places),
            "logs": str(self._places.logs),
            "healthy": self._phase == "running" and supervisor is not None and supervisor.all_ready,
            **observed,
        }

    def _state_now(self) -> PlatformState:
        supervisor, platform = self._supervisor, self._platform
        return own_state(
            state=self._phase,
            since=self._since,
            address=platform.address if platform else "",
            gaps=tuple(platform.gaps) if platform else (),
            parts=tuple(asdict(part) for part in supervisor.parts()) if supervisor else (),
            groups=tuple(one.groups for one in platform.components if one.groups) if platform else (),
            run=str(self._places.run),
        )

    def _state_before(self) -> PlatformState | None:
        try:
            return read_state(self._places.platform)
        except TidehubError as error:
            self._tell_log(f"replaced: {error}")
            return None

    def _put_back(self, before: PlatformState | None) -> None:
        """After a failed start `platform.json` tells again of a crashed run whose processes may live on."""
        with contextlib.suppress(TidehubError):
            if before is None:
                forget_state(self._places.platform)
            else:
                write_state(self._places.platform, before)

    def _changed(self) -> None:
        if not self._write_due:
            self._write_due = True
            asyncio.get_running_loop().call_soon(self._write_state)

    def _write_state(self) -> None:
        self._write_due = False
        # A full disk must not end a running platform; `status` asks the supervisor, not the file.
        with contextlib.suppress(TidehubError):
            write_state(self._places.platform, self._state_now())
        serves = self._platform.serves if self._platform else {}
        if self._phase == "running" and serves is not self._remembered:
            self._remembered = serves
            remember(self._places, serves)

    def _progress(self, names: str) -> None:
        self._say.step(f"starting {names}")

    def _announce(self, text: str) -> None:
        self._say.step(text)
        self._published.publish({"said": text})

    def _tell(self, text: str) -> None:
        self._tell_log(text)
        self._say.note(text)
        self._published.publish({"said": text})

    def _tell_log(self, text: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._log.write(f"{stamp} {text}\n".encode())
