"""The end of a platform whose supervisor is gone or does not answer, by the platform's own records.

Nothing here needs to be written to the disk, which may be full: users' processes are in the table of launches, and
parts in `platform.json`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.local.isolation.base import Ground
from tidehub.local.isolation.cgroup_files import Group, Tree, subgroups
from tidehub.local.isolation.single import SingleIsolation
from tidehub.local.places import Places
from tidehub.local.room import give_reserve_back
from tidehub.local.supervisor import holder
from tidehub.local.supervisor.control import ask_supervisor, reachable
from tidehub.local.supervisor.lock import hold
from tidehub.local.supervisor.pace import Look, Pace, judge
from tidehub.local.supervisor.state import PlatformState, forget_state
from tidehub.system.processes import all_stats, is_alive, send, start_ticks

ANSWER = 3.0
"""Seconds in which a supervisor answers that is not held up: it only has to say that it is there."""
STARVED_ANSWER = 15.0
"""The same on a machine that gives it no time."""
SIGTERM_GRACE = 5.0
"""Seconds after SIGTERM until a supervisor that did not answer must show that it stops."""
USERS_GRACE = 10.0
"""Seconds that servers and clusters get to end by themselves."""
_KILL_SECONDS = 10.0
_POLL = 0.05


def answers(places: Places, pid: int) -> bool:
    """Whether the supervisor answers, found out within seconds. Raises `ConnectionError` when it does not listen."""
    until = time.monotonic() + STARVED_ANSWER
    tries = 0
    while True:
        before = Look.at_process(pid)
        try:
            for _ in ask_supervisor(places.control, {"do": "ping"}, timeout=ANSWER):
                return True
            raise ConnectionError("the supervisor ended")
        except TimeoutError:
            tries += 1
        pace, _ = judge(before, Look.at_process(pid))
        if pace is Pace.STOPPED or time.monotonic() > until or (tries > 1 and pace is not Pace.STARVED):
            return False


def wake_and_ask(pid: int) -> None:
    """SIGCONT for one that was stopped, and SIGTERM. Raises `TidehubError` when it is another user's."""
    started = start_ticks(pid)
    if started is not None:
        send(pid, started, signal.SIGTERM)
        send(pid, started, signal.SIGCONT)


def kill_supervisor(pid: int) -> None:
    """End it whatever it does; its parts end with it. Raises `TidehubError` when even that does not end it."""
    started = start_ticks(pid)
    if started is None:
        return
    send(pid, started, signal.SIGKILL)
    until = time.monotonic() + _KILL_SECONDS
    while is_alive(pid, started):
        if time.monotonic() > until:
            raise TidehubError(
                f"process {pid} does not end after SIGKILL",
                expected="only a process that waits inside the kernel (a hung disk or network mount) can do that",
                fix="see to the disk; the machine may have to be started anew",
            )
        time.sleep(_POLL)


def end_remains(
    places: Places, left: PlatformState | None, said: Callable[[str], None], *, now: bool
) -> None:
    """End users' servers and clusters and what is left of the parts, after the supervisor. `left`: its last record.

    No `up` can begin meanwhile. Raises `Locked`, and `TidehubError` when something does not end.
    """
    with hold(places.lock):
        said("ending users' servers and clusters")
        _end_users(places, 0.0 if now else USERS_GRACE)
        if left is not None:
            end_parts(left)
        _end_holder(places)
        give_reserve_back(places)
        with contextlib.suppress(OSError):
            places.control.unlink(missing_ok=True)
        forget_state(places.platform)
        places.remove_run()


def _end_users(places: Places, grace: float) -> None:
    if not places.users.exists():
        return
    # Handles say themselves how they are ended, so any isolation can do it; this one tries nothing out first.
    ground = Ground(
        private=places.private,
        homes=places.homes,
        run=places.run,
        logs=places.logs,
        log_pipes=places.log_pipes,
    )
    asyncio.run(SingleIsolation(ground).stop_all(grace=grace))


def end_parts(left: PlatformState) -> None:
    """End what is left of the parts, and wait until it is gone: it holds ports and databases.

    The kernel ends parts with their supervisor (PR_SET_PDEATHSIG), some time after it; their helpers it does not.
    """
    stats = all_stats()
    killed = []
    for part in left.parts:
        pid, started = part.get("pid"), part.get("started")
        if not isinstance(pid, int) or not isinstance(started, int):
            continue
        first = stats.get(pid)
        if first is not None and first.started != started:
            continue  # another process has the number now
        # A part leads a session of its own, which keeps its number for as long as anybody is in it.
        for stat in stats.values():
            if stat.session == pid and stat.started >= started and not stat.ended:
                send(stat.pid, stat.started, signal.SIGKILL)
                killed.append((stat.pid, stat.started))
    until = time.monotonic() + _KILL_SECONDS
    while any(is_alive(*one) for one in killed) and time.monotonic() < until:
        time.sleep(_POLL)
    for platform in _platform_groups(left.groups):
        for group in subgroups(platform.dirs, platform.tree):
            if os.getpid() not in group.processes():
                group.kill()
                group.remove()
        platform.remove()
        Group(tuple(path.parent for path in platform.dirs), platform.tree).remove()


def _platform_groups(groups: Sequence[Sequence[str]]) -> Iterator[Group]:
    """The groups above the parts' own ones, each once."""
    above = {tuple(Path(path).parent for path in dirs) for dirs in groups if dirs}
    for dirs in above:
        yield Group(dirs, Tree())


def _end_holder(places: Places) -> None:
    """Nothing needs the platform's ports any more; it would notice by itself a little later."""
    with (
        contextlib.suppress(OSError, TidehubError),
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line,
    ):
        line.settimeout(ANSWER)
        with reachable(places.holder) as name:
            line.connect(name)
        line.sendall(holder.END)
        line.recv(1)
    with contextlib.suppress(OSError):
        places.holder.unlink(missing_ok=True)
