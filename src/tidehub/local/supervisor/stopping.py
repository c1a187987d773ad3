"""`tidehub down`: the end of what runs on a state, with the help of its supervisor or without it.

A supervisor that is gone, or does not answer, is made up for by the platform's own records: users' processes are in the
table of launches, and parts in `platform.json`. Nothing here needs to be written to the disk, which may be full.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from tidehub.errors import FAILED, TidehubError
from tidehub.local.addresses import forget_asked_port
from tidehub.local.isolation.cgroup_files import Group
from tidehub.local.isolation.trees import Ground, Trees
from tidehub.local.places import Places
from tidehub.local.room import give_reserve_back
from tidehub.local.supervisor.conversation import LOOK, NoAnswer, Silence, ask, talk
from tidehub.local.supervisor.holder import END
from tidehub.local.supervisor.state import (
    KEPT,
    Locked,
    PlatformState,
    forget_state,
    hold,
    holder,
    reachable,
    read_state,
)
from tidehub.local.supervisor.status import visible
from tidehub.system.processes import all_stats, is_alive, send, start_ticks

_STOP_SECONDS = 120.0
"""Seconds that a supervisor gets which stops and answers: longer than all of its own deadlines together."""
_HURRIED_SECONDS = 20.0
"""The same with `--now`."""
LEAVE = "leave"
"""The request to stop the parts alone: not `stop` with a word beside it, which an earlier tidehub would not look at."""
_LEAVING = 5.0
_RELEASE_SECONDS = 15.0
_HOLDER_ANSWER = 3.0
_SIGTERM_GRACE = 5.0
"""Seconds after SIGTERM until a supervisor that did not answer must show that it stops."""
_USERS_GRACE = 10.0
"""Seconds that servers and clusters get to end by themselves."""
_KILL_SECONDS = 10.0
_POLL = 0.05


def stop_platform(places: Places, said: Callable[[str], None], *, now: bool = False) -> int:
    """Stop what runs on this state and wait for its end; returns the exit code: 0, or 1 when something of the
    platform had to be killed.

    Nothing running is success. A supervisor that does not answer is ended, and what a dead one left is ended without
    it. `now` kills instead of waiting for users' processes to end. Raises `TidehubError` when it cannot be stopped.
    """
    if not visible(places):
        said(f"Nothing runs in {places.state}.")
        return 0
    pid, willing = holder(places.lock), True
    if pid is not None:
        willing = _stop_supervisor(places, pid, said, now=now)
    left = _record(places)
    if left is not None and left.before_reboot:
        forget_state(places.platform)
        said(f"Nothing runs in {places.state}: the machine was restarted since.")
    elif left is not None or not willing:
        if pid is None and left is not None and left.state != KEPT:
            said(f"the supervisor (process {left.pid}) is gone without a clean stop")
        _end_remains(places, left, said, now=now)
    elif pid is None:
        said(f"Nothing runs in {places.state}.")
    return 0 if willing else FAILED


def leave_platform(places: Places, said: Callable[[str], None]) -> int:
    """Stop the parts, and nothing of the users; returns the exit code as `stop_platform` does.

    A supervisor that does not answer, or is of a tidehub that cannot do this, is killed: its parts end with it, and
    users' servers and clusters, which are no children of theirs, do not. Raises `TidehubError` when it does not end.
    """
    pid = holder(places.lock) if visible(places) else None
    if pid is None:
        said(f"No parts of a platform run in {places.state}.")
        return 0
    _require_seen(places, pid)
    try:
        if _answers(places, pid) and _talk(places, pid, said, {"do": LEAVE}, _STOP_SECONDS):
            return 0
    except ConnectionError:
        if _ends_by_itself(places, pid, _LEAVING):
            return 0
    if holder(places.lock) == pid:
        said(f"the supervisor (process {pid}) does not answer")
        # Not SIGTERM: that asks for the end of everything.
        _kill(places, pid, said)
    with contextlib.suppress(Locked), hold(places.lock):  # else the next `up` is there already
        if left := _record(places):
            _end_parts(left)
    return FAILED


def _record(places: Places) -> PlatformState | None:
    try:
        return read_state(places.platform)
    except TidehubError:
        # Damaged: something was running when it was written. Users' processes are found without it.
        return PlatformState(pid=0, started=0, since=0.0, state="damaged")


def _stop_supervisor(places: Places, pid: int, said: Callable[[str], None], *, now: bool) -> bool:
    """End the process that holds the state; whether it ended by itself, with all that it had started."""
    _require_seen(places, pid)
    try:
        if _answers(places, pid):
            return _talk(
                places, pid, said, {"do": "stop", "hurry": now}, _HURRIED_SECONDS if now else _STOP_SECONDS
            )
    except ConnectionError:
        if _ends_by_itself(places, pid, 0.0 if now else _LEAVING):
            return True
    said(f"the supervisor (process {pid}) does not answer")
    if now:
        return _kill(places, pid, said)
    said("it gets SIGTERM")
    _send(pid, signal.SIGTERM)
    _send(pid, signal.SIGCONT)  # it may have been stopped
    if _released(places, pid, _SIGTERM_GRACE):
        return True
    try:
        if _answers(places, pid):
            return _talk(places, pid, said, {"do": "stop"}, _STOP_SECONDS)
    except ConnectionError:
        if _released(places, pid, _RELEASE_SECONDS):
            return True
    return _kill(places, pid, said)


def _talk(
    places: Places, pid: int, said: Callable[[str], None], request: dict[str, object], patience: float
) -> bool:
    """Ask the supervisor to end, and wait for that; whether all that it had started ended by itself."""
    until = time.monotonic() + patience
    clean, done = False, False
    while not done and time.monotonic() < until:
        try:
            for answer in talk(places.control, pid, request):
                if "said" in answer:
                    said(str(answer["said"]))
                if answer.get("ok") is False:
                    why = answer.get("error")
                    said(f"the supervisor (process {pid}) comes from an earlier version of tidehub: {why}")
                    return _kill(places, pid, said)
                clean, done = clean or bool(answer.get("clean")), done or bool(answer.get("done"))
                if time.monotonic() > until:
                    break
            else:
                break  # it closed
        except ConnectionError:
            break
        except NoAnswer:
            if not _still_answers(places, pid):
                said(f"the supervisor (process {pid}) does not answer any more")
                return _kill(places, pid, said)
        request = {**request, "hurry": False}  # a second one would be the order to hurry
    if _ends_at_last(places, pid):
        return clean
    said(f"the supervisor (process {pid}) did not end in time")
    return _kill(places, pid, said)


def _require_seen(places: Places, pid: int) -> None:
    """Raise `TidehubError` when the process that holds the state has no number here (another container)."""
    if not pid:
        raise TidehubError(
            f"{places.state} is in use by a process that cannot be seen from here",
            expected="to be run where the platform was started (the same container)",
            fix="run it there",
        )


def _still_answers(places: Places, pid: int) -> bool:
    try:
        return _answers(places, pid)
    except ConnectionError:
        return True  # it has closed the socket: it is ending


def _kill(places: Places, pid: int, said: Callable[[str], None]) -> bool:
    """End it whatever it does; its parts end with it."""
    said(f"the supervisor (process {pid}) is killed")
    _send(pid, signal.SIGKILL)
    if not _within(_KILL_SECONDS, lambda: start_ticks(pid) is None):
        raise TidehubError(
            f"process {pid} does not end after SIGKILL",
            expected="only a process that waits inside the kernel (a hung disk or network mount) can do that",
            fix="check the disk; the machine may have to be restarted",
        )
    if not _released(places, pid, _RELEASE_SECONDS):
        raise TidehubError(
            f"{places.lock} is still held after the end of process {pid}",
            fix=f"look for other processes of tidehub, and into {places.supervisor_log}",
        )
    return False


def _send(pid: int, number: signal.Signals) -> None:
    if (started := start_ticks(pid)) is not None:
        send(pid, started, number)


def _ends_by_itself(places: Places, pid: int, patience: float) -> bool:
    """Whether one that does not listen ends within so many seconds: it is about to, or it is being prepared."""
    found = _record(places)
    return (found is None or found.state != "preparing") and _released(places, pid, patience)


def _ends_at_last(places: Places, pid: int) -> bool:
    """Whether one that has said its last word ends, for however long the machine keeps it from that."""
    silence = Silence(pid)
    if _released(places, pid, _RELEASE_SECONDS):
        return True
    try:
        while not _released(places, pid, LOOK):
            silence.bear()
    except NoAnswer:
        return False
    return True


def _released(places: Places, pid: int, patience: float) -> bool:
    """Whether the lock is free, and the process that held it gone, within so many seconds."""
    return _within(patience, lambda: holder(places.lock) is None and start_ticks(pid) is None)


def _within(seconds: float, so: Callable[[], bool]) -> bool:
    """Wait until it is so, at most for so long; whether it is."""
    until = time.monotonic() + seconds
    while not so():
        if time.monotonic() > until:
            return False
        time.sleep(_POLL)
    return True


def _answers(places: Places, pid: int) -> bool:
    """Whether the supervisor answers, however slow it is. Raises `ConnectionError` when it does not listen."""
    try:
        ask(places.control, pid, {"do": "ping"})
    except NoAnswer:
        return False
    return True


def _end_remains(
    places: Places, left: PlatformState | None, said: Callable[[str], None], *, now: bool
) -> None:
    """End users' servers and clusters and what is left of the parts, after the supervisor. `left`: its last record.

    No `up` can begin meanwhile. Raises `Locked`, and `TidehubError` when something does not end.
    """
    with hold(places.lock):
        said("ending users' servers and clusters")
        _end_users(places, 0.0 if now else _USERS_GRACE)
        if left is not None:
            _end_parts(left)
        _end_holder(places)
        give_reserve_back(places)
        with contextlib.suppress(TidehubError):
            forget_asked_port(places.front)
        with contextlib.suppress(OSError):
            places.control.unlink(missing_ok=True)
        forget_state(places.platform)
        places.remove_run()


def _end_users(places: Places, grace: float) -> None:
    if not places.users.exists():
        return
    asyncio.run(Trees(Ground.of(places)).stop_all(grace=grace))


def _end_parts(left: PlatformState) -> None:
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
    _within(_KILL_SECONDS, lambda: not any(is_alive(*one) for one in killed))
    # The groups above the parts' own ones, each once.
    for above in {tuple(Path(path).parent for path in dirs) for dirs in left.groups if dirs}:
        platform = Group(above)
        for group in platform.inner():
            if os.getpid() not in group.processes():
                group.kill()
                group.remove()
        platform.remove()
        platform.above(0).remove()


def _end_holder(places: Places) -> None:
    """Nothing needs the platform's ports any more; it would notice by itself a little later."""
    with (
        contextlib.suppress(OSError, TidehubError),
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line,
    ):
        line.settimeout(_HOLDER_ANSWER)
        with reachable(places.holder) as name:
            line.connect(name)
        line.sendall(END)
        line.recv(1)
    with contextlib.suppress(OSError):
        places.holder.unlink(missing_ok=True)
