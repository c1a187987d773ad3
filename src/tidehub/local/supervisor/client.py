"""What other commands learn from, and ask of, the supervisor that runs on a state."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict

from tidehub.errors import FAILED, TidehubError
from tidehub.local.places import Places
from tidehub.local.set_aside import files_set_aside
from tidehub.local.supervisor.control import ask_supervisor
from tidehub.local.supervisor.lock import holder
from tidehub.local.supervisor.state import PlatformState, forget_state, read_state, start_ticks

STOP_TIMEOUT = 120.0
"""Seconds without a word from a supervisor that stops, after which `down` gives up waiting."""
_RELEASE_TIMEOUT = 15.0
_POLL = 0.1


def platform_status(places: Places) -> dict[str, object]:
    """What runs on this state; `state` is one of the supervisor's phases, or `none` (never set up), `stopped`,
    `crashed` (the supervisor is gone without a clean stop), `rebooted` (so is it, with everything else, because the
    machine was started anew), `preparing` or `silent` (it does not answer).

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
    return {"state": "rebooted" if left.before_reboot else "crashed", **_kept(left)}


def _kept(left: PlatformState) -> dict[str, object]:
    content = asdict(left)
    return {name: content[name] for name in ("pid", "since", "address", "version")}


def stop_platform(places: Places, said: Callable[[str], None], *, now: bool = False) -> int:
    """Stop what runs on this state and wait for its end; returns the exit code.

    Nothing running is success. `now` kills instead of waiting for people's processes to end. Raises `TidehubError`
    when it cannot be stopped, or when a crashed run left processes that only a new start can find.
    """
    status = platform_status(places)
    match status["state"]:
        case "none" | "stopped":
            said(f"Nothing runs in {places.state}.")
            return 0
        case "rebooted":
            forget_state(places.platform)
            said(f"Nothing runs in {places.state}: the machine was started anew since.")
            return 0
        case "crashed":
            raise TidehubError(
                f"the supervisor of {places.state} (process {status['pid']}) is gone without a clean stop",
                fix="servers and clusters of people may still run: `tidehub up` takes them over, "
                "and then `tidehub down` ends them",
            )
        case "preparing" | "silent":
            return _stop_by_signal(places, said)
        case _:
            return _stop_by_request(places, said, now=now)


def _stop_by_request(places: Places, said: Callable[[str], None], *, now: bool) -> int:
    clean, pid = False, holder(places.lock)
    try:
        for answer in ask_supervisor(places.control, {"do": "stop", "hurry": now}, timeout=STOP_TIMEOUT):
            if "said" in answer:
                said(str(answer["said"]))
            clean = clean or bool(answer.get("clean"))
    except ConnectionError:
        pass
    except TimeoutError as error:
        raise TidehubError(
            f"the platform did not end in {STOP_TIMEOUT:g} s", fix="kill what is left: tidehub down --now"
        ) from error
    _await_release(places, pid, _RELEASE_TIMEOUT)
    return 0 if clean else FAILED


def _stop_by_signal(places: Places, said: Callable[[str], None]) -> int:
    pid = holder(places.lock)
    if not pid:
        return 0
    said(f"the supervisor (process {pid}) does not answer; it gets SIGTERM")
    with contextlib.suppress(ProcessLookupError):
        try:
            os.kill(pid, signal.SIGTERM)
        except PermissionError as error:
            raise TidehubError(f"process {pid} belongs to another user", fix="run as that user") from error
    _await_release(places, pid, STOP_TIMEOUT)
    return FAILED if read_state(places.platform) else 0


def _await_release(places: Places, pid: int | None, patience: float) -> None:
    """Wait until the lock is free and the process that held it is gone."""
    deadline = time.monotonic() + patience
    while holder(places.lock) is not None or (pid and start_ticks(pid) is not None):
        if time.monotonic() > deadline:
            raise TidehubError(
                f"process {pid} did not end in {patience:g} s", fix=f"look into {places.supervisor_log}"
            )
        time.sleep(_POLL)


def _visible(places: Places) -> bool:
    try:
        places.private.stat()
    except FileNotFoundError:
        return False
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
        expected="the user who started the platform",
        fix="run as that user, or name another state with --state",
    )


def is_running(status: Mapping[str, object]) -> bool:
    """Whether a supervisor is at work, whatever its parts do."""
    return status["state"] not in ("none", "stopped", "crashed", "rebooted")
