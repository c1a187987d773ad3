"""What other commands learn from, and ask of, the supervisor that runs on a state."""

from __future__ import annotations

import contextlib
import os
import pwd
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from tidehub.errors import FAILED, TidehubError
from tidehub.local.places import Places
from tidehub.local.set_aside import files_set_aside
from tidehub.local.supervisor.control import ask_supervisor
from tidehub.local.supervisor.ending import (
    SIGTERM_GRACE,
    answers,
    end_parts,
    end_remains,
    kill_supervisor,
    wake_and_ask,
)
from tidehub.local.supervisor.lock import Locked, hold, holder
from tidehub.local.supervisor.state import KEPT, PlatformState, forget_state, read_state
from tidehub.system.files import os_fault
from tidehub.system.processes import start_ticks

STOP_TIMEOUT = 120.0
"""Seconds that a supervisor gets which stops and answers: longer than all of its own deadlines together."""
HURRIED_TIMEOUT = 20.0
"""The same with `--now`."""
SILENCE = 10.0
"""Seconds without a word after which it is asked whether it is still there; see `control.HEARTBEAT`."""
LEAVE = "leave"
"""The request to stop the parts alone: not `stop` with a word beside it, which an earlier tidehub would not look at."""
_LEAVING = 5.0
_RELEASE_TIMEOUT = 15.0
_POLL = 0.1


def platform_status(places: Places) -> dict[str, object]:
    """What runs on this state; `state` is one of the supervisor's phases, or `none` (never set up), `stopped`,
    `kept` (the parts were stopped, users' servers and clusters were not), `crashed` (the supervisor is gone without a
    clean stop), `rebooted` (so is it, with everything else, because the machine was started anew), `preparing` or
    `silent` (it does not answer).

    `healthy` is true when all parts of a running platform are ready. Raises `TidehubError` when it cannot be seen.
    """
    about = {
        "state_dir": str(places.state),
        "logs": str(places.logs),
        "healthy": False,
        "set_aside": [str(path) for path in files_set_aside(places.private)],
    }
    if not _visible(places):
        return {"state": "none", **about}
    try:
        for answer in ask_supervisor(places.control, {"do": "status"}):
            status = answer.get("status")
            if isinstance(status, dict):
                return {**status, "set_aside": about["set_aside"]}
        return {"state": "silent", "pid": holder(places.lock), **about}
    except (ConnectionError, TimeoutError):
        return {**_without_answer(places), **about}


def _without_answer(places: Places) -> dict[str, object]:
    pid = holder(places.lock)
    left = read_state(places.platform)
    if pid is not None:
        preparing = left is not None and left.state == "preparing" and left.alive
        return {"state": "preparing" if preparing else "silent", "pid": pid or None}
    if left is None:
        return {"state": "stopped"}
    content = asdict(left)
    known = {name: content[name] for name in ("pid", "since", "address", "version")}
    return {"state": "rebooted" if left.before_reboot else KEPT if left.state == KEPT else "crashed", **known}


def stop_platform(places: Places, said: Callable[[str], None], *, now: bool = False) -> int:
    """Stop what runs on this state and wait for its end; returns the exit code: 0, or 1 when something of the
    platform had to be killed.

    Nothing running is success. A supervisor that does not answer is ended, and what a dead one left is ended without
    it. `now` kills instead of waiting for users' processes to end. Raises `TidehubError` when it cannot be stopped.
    """
    if not _visible(places):
        said(f"Nothing runs in {places.state}.")
        return 0
    pid, willing = holder(places.lock), True
    if pid is not None:
        willing = _stop_supervisor(places, pid, said, now=now)
    left = _record(places)
    if left is not None and left.before_reboot:
        forget_state(places.platform)
        said(f"Nothing runs in {places.state}: the machine was started anew since.")
    elif left is not None or not willing:
        if pid is None and left is not None and left.state != KEPT:
            said(f"the supervisor (process {left.pid}) is gone without a clean stop")
        end_remains(places, left, said, now=now)
    elif pid is None:
        said(f"Nothing runs in {places.state}.")
    return 0 if willing else FAILED


def leave_platform(places: Places, said: Callable[[str], None]) -> int:
    """Stop the parts, and nothing of the users; returns the exit code as `stop_platform` does.

    A supervisor that does not answer, or is of a tidehub that cannot do this, is killed: its parts end with it, and
    users' servers and clusters, which are no children of theirs, do not. Raises `TidehubError` when it does not end.
    """
    pid = holder(places.lock) if _visible(places) else None
    if pid is None:
        said(f"No parts of a platform run in {places.state}.")
        return 0
    require_seen(places, pid)
    try:
        if answers(places, pid) and _talk(places, pid, said, {"do": LEAVE}, STOP_TIMEOUT):
            return 0
    except ConnectionError:
        found = _record(places)
        if (found is None or found.state != "preparing") and _released(places, pid, _LEAVING):
            return 0
    if holder(places.lock) == pid:
        said(f"the supervisor (process {pid}) does not answer")
        # Not SIGTERM: that asks for the end of everything.
        _kill(places, pid, said)
    with contextlib.suppress(Locked), hold(places.lock):  # else the next `up` is there already
        if left := _record(places):
            end_parts(left)
    return FAILED


def _record(places: Places) -> PlatformState | None:
    try:
        return read_state(places.platform)
    except TidehubError:
        # Damaged: something was running when it was written. Users' processes are found without it.
        return PlatformState(pid=0, started=0, since=0.0, state="damaged")


def _stop_supervisor(places: Places, pid: int, said: Callable[[str], None], *, now: bool) -> bool:
    """End the process that holds the state; whether it ended by itself, with all that it had started."""
    require_seen(places, pid)
    try:
        if answers(places, pid):
            return _stop_by_request(places, pid, said, now=now)
    except ConnectionError:
        # It is being prepared, or about to end: then it does not listen.
        found = _record(places)
        if (found is None or found.state != "preparing") and _released(places, pid, 0.0 if now else _LEAVING):
            return True
    said(f"the supervisor (process {pid}) does not answer")
    if now:
        return _kill(places, pid, said)
    said("it gets SIGTERM")
    wake_and_ask(pid)
    if _released(places, pid, SIGTERM_GRACE):
        return True
    try:
        if answers(places, pid):
            return _stop_by_request(places, pid, said, now=False)
    except ConnectionError:
        if _released(places, pid, _RELEASE_TIMEOUT):
            return True
    return _kill(places, pid, said)


def _stop_by_request(places: Places, pid: int, said: Callable[[str], None], *, now: bool) -> bool:
    patience = HURRIED_TIMEOUT if now else STOP_TIMEOUT
    return _talk(places, pid, said, {"do": "stop", "hurry": now}, patience)


def _talk(
    places: Places, pid: int, said: Callable[[str], None], request: dict[str, object], patience: float
) -> bool:
    """Ask the supervisor to end, and wait for that; whether all that it had started ended by itself."""
    until = time.monotonic() + patience
    clean, done = False, False
    while not done and time.monotonic() < until:
        try:
            for answer in ask_supervisor(places.control, request, timeout=SILENCE):
                if "said" in answer:
                    said(str(answer["said"]))
                if answer.get("ok") is False:
                    said(f"the supervisor (process {pid}) is of an earlier tidehub: {answer.get('error')}")
                    return _kill(places, pid, said)
                clean, done = clean or bool(answer.get("clean")), done or bool(answer.get("done"))
                if time.monotonic() > until:
                    break
            else:
                break  # it closed
        except ConnectionError:
            break
        except TimeoutError:
            if not _still_answers(places, pid):
                said(f"the supervisor (process {pid}) does not answer any more")
                return _kill(places, pid, said)
        request = {**request, "hurry": False}  # a second one would be the order to hurry
    if _released(places, pid, _RELEASE_TIMEOUT):
        return clean
    said(f"the supervisor (process {pid}) did not end in time")
    return _kill(places, pid, said)


def require_seen(places: Places, pid: int) -> None:
    """Raise `TidehubError` when the process that holds the state has no number here (another container)."""
    if not pid:
        raise TidehubError(
            f"{places.state} is in use by a process that cannot be seen from here",
            expected="to be run where the platform was started (the same container)",
            fix="run it there",
        )


def _still_answers(places: Places, pid: int) -> bool:
    try:
        return answers(places, pid)
    except ConnectionError:
        return True  # it has closed the socket: it is ending


def _kill(places: Places, pid: int, said: Callable[[str], None]) -> bool:
    said(f"the supervisor (process {pid}) is killed")
    kill_supervisor(pid)
    if not _released(places, pid, _RELEASE_TIMEOUT):
        raise TidehubError(
            f"{places.lock} is still held after the end of process {pid}",
            fix=f"look for other processes of tidehub, and into {places.supervisor_log}",
        )
    return False


def _released(places: Places, pid: int, patience: float) -> bool:
    """Whether the lock is free, and the process that held it gone, within so many seconds."""
    deadline = time.monotonic() + patience
    while holder(places.lock) is not None or start_ticks(pid) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


def _visible(places: Places) -> bool:
    try:
        places.private.stat()
    except FileNotFoundError:
        return False
    except NotADirectoryError as error:
        raise os_fault(error, places.private, "look into") from error
    except OSError:
        pass
    else:
        if os.access(places.private, os.R_OK | os.X_OK):
            if not places.exists and places.secrets.exists():
                raise TidehubError(
                    f"{places.id_file} is missing, and without it nothing that runs can be found",
                    expected="the state as the last run left it",
                    fix="restore it from a backup, or run `tidehub up`, which says what a new one means",
                )
            return places.exists
    raise TidehubError(
        f"you may not look into {places.private}",
        expected="the user who started the platform"
        + (f": {owner}" if (owner := _owner(places.state)) else ""),
        fix="run as that user, or name another state with --state",
    )


def _owner(directory: Path) -> str:
    """The name of its owner, or the number of one without a name; nothing where it cannot be seen."""
    try:
        uid = directory.stat().st_uid
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
    except OSError:
        return ""


def anything_to_stop(places: Places) -> bool:
    """Whether a supervisor is at work, or one is gone and left something. Raises as `platform_status` does."""
    return _visible(places) and (holder(places.lock) is not None or places.platform.exists())


def is_running(status: Mapping[str, object]) -> bool:
    """Whether a supervisor is at work, whatever its parts do."""
    return status["state"] not in ("none", "stopped", KEPT, "crashed", "rebooted")
