"""What runs on a state: asked of its supervisor, or read from what a supervisor left; and the same in words."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.local.places import Places, command
from tidehub.local.set_aside import files_set_aside
from tidehub.local.supervisor.last_up import last_options, up_again
from tidehub.local.supervisor.state import KEPT, ask_supervisor, holder, read_state
from tidehub.site.units import about_size

_PHASES = {
    "none": "No platform was set up in {state_dir}. Start one: {up}",
    "stopped": "Nothing runs in {state_dir}. Start it: {up}",
    "kept": "The parts of {state_dir} are stopped; users' servers and clusters keep running. "
    "Take them over: {up}; end them: {down}",
    "crashed": "The supervisor of {state_dir} (process {pid}) is gone without a clean stop. "
    "Users' servers and clusters may still run. Take them over: {up}; end them: {down}",
    "rebooted": "Nothing runs in {state_dir}: the machine was restarted since. Start it: {up}",
    "silent": "The supervisor of {state_dir} (process {pid}) does not answer. Its log: "
    "{logs}/supervisor.log. End it, and all that it started: {down}",
    "preparing": "The platform of {state_dir} is being prepared (process {pid}).",
}


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
    if not visible(places):
        return {"state": "none", **about}
    about["up"] = up_again(places, last_options(places))
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
        # `kept`: its parts have stopped, and it is becoming the program that goes on with the state.
        preparing = left is not None and (left.state == KEPT or (left.state == "preparing" and left.alive))
        return {"state": "preparing" if preparing else "silent", "pid": pid or None}
    if left is None:
        return {"state": "stopped"}
    content = asdict(left)
    known = {name: content[name] for name in ("pid", "since", "address", "version")}
    return {"state": "rebooted" if left.before_reboot else KEPT if left.state == KEPT else "crashed", **known}


def anything_to_stop(places: Places) -> bool:
    """Whether a supervisor is at work, or one is gone and left something. Raises as `platform_status` does."""
    return visible(places) and (holder(places.lock) is not None or places.platform.exists())


def is_running(status: Mapping[str, object]) -> bool:
    """Whether a supervisor is at work, whatever its parts do."""
    return status["state"] not in ("none", "stopped", KEPT, "crashed", "rebooted")


def visible(places: Places) -> bool:
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
                    fix=f"restore it from a backup, or run `{command(places.state, 'up')}`, which says what a "
                    "new one means",
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


def status_lines(status: Mapping[str, object], *, now: float | None = None) -> list[str]:
    """What `tidehub status` prints for the answer of `platform_status`."""
    phase = str(status["state"])
    if phase in _PHASES:
        state = Path(str(status["state_dir"]))
        words = {"pid": "unknown", "up": command(state, "up"), **status, "down": command(state, "down")}
        return [_PHASES[phase].format(**words), *_set_aside(status)]
    at = time.time() if now is None else now
    lines = [
        f"{phase} at {status.get('address')}  (process {status.get('pid')}, for {duration(status.get('uptime'))})",
        f"state in {status.get('state_dir')}",
        "",
    ]
    lines += _table(_rows(status.get("parts")), at)
    lines += _users(status)
    lines += _disk(status)
    lines += _users_files(status)
    lines += _set_aside(status)
    gaps = _texts(status.get("gaps"))
    if gaps:
        lines += ["", "not enforced on this machine:", *(f"  {gap}" for gap in gaps)]
    return lines


def _disk(status: Mapping[str, object]) -> list[str]:
    disk = status.get("disk")
    if not isinstance(disk, Mapping):
        return []
    lines = (
        [
            f"free on the disk ({disk.get('name', '')}): {_size(disk.get('free'))} of {_size(disk.get('total'))}"
        ]
        if "free" in disk
        else []
    )
    return lines + ([f"warning: {disk['problem']}"] if disk.get("problem") else [])


def _users_files(status: Mapping[str, object]) -> list[str]:
    files = status.get("users_files")
    if not isinstance(files, Mapping) or not isinstance(files.get("limit"), int):
        return []
    rows = _rows(files.get("users"))
    over = [
        f"  {row.get('user')}: {'' if row.get('complete') else 'at least '}{_size(row.get('bytes'))}"
        for row in rows
        if row.get("over")
    ]
    unseen = [str(row.get("user")) for row in rows if not row.get("complete") and not row.get("over")]
    lines = [f"users above notebooks.home.size ({_size(files['limit'])}):", *over] if over else []
    if unseen:
        lines.append(f"users whose files could not all be counted: {', '.join(unseen)}")
    return lines


def _set_aside(status: Mapping[str, object]) -> list[str]:
    files = _texts(status.get("set_aside"))
    if not files:
        return []
    return ["", "damaged records, taken out of the databases (remove the file when it is of no use):"] + [
        f"  {path}" for path in files
    ]


def duration(seconds: object) -> str:
    """Seconds as a user says them, in the two largest units."""
    left = int(float(seconds)) if isinstance(seconds, int | float) else 0
    parts = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def _table(rows: Sequence[Mapping[str, object]], now: float) -> list[str]:
    width = max((len(str(row.get("name"))) for row in rows), default=0)
    lines = []
    for row in rows:
        since = row.get("since")
        lasts = duration(max(0.0, now - since)) if isinstance(since, int | float) else ""
        restarts = row.get("restarts")
        detail = [f"pid {row['pid']}"] if row.get("pid") else []
        detail += [f"restarted {restarts} times" if restarts != 1 else "restarted once"] if restarts else []
        detail += [str(row["why"])] if row.get("why") else []
        lines.append(
            f"  {row.get('name')!s:<{width}}  {row.get('state')!s:<10}  {lasts:<12}  {', '.join(detail)}"
        )
    return [line.rstrip() for line in lines]


def _users(status: Mapping[str, object]) -> list[str]:
    lines = []
    for title in ("servers", "clusters"):
        found = _rows(status.get(title))
        if found:
            lines += ["", f"{title}:"]
            lines += [
                f"  {row.get('id')!s:<44} {_size(row.get('memory')):>10}  pid {row.get('pid')}"
                for row in found
            ]
    queue = _rows(status.get("queue"))
    if queue:
        lines += ["", "waiting:"]
        lines += [f"  {row.get('place')}. {row.get('id')}: {row.get('reason')}" for row in queue]
    memory = status.get("memory")
    if isinstance(memory, Mapping):
        given, capacity = _size(memory.get("guaranteed")), _size(memory.get("capacity"))
        lines += ["", f"memory guaranteed to users: {given} of {capacity}"]
    if status.get("not_observed"):
        lines += ["", f"users' servers are not known now: {status['not_observed']}"]
    return lines


def _size(value: object) -> str:
    return about_size(value) if isinstance(value, int) else ""


def _rows(value: object) -> list[Mapping[str, object]]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list | tuple) else []


def _texts(value: object) -> list[str]:
    return [str(text) for text in value] if isinstance(value, list | tuple) else []
