"""A platform's status in words."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tidehub.local.places import command
from tidehub.site.units import about_size

_PHASES = {
    "none": "No platform was set up in {state_dir}. Start one: {up}",
    "stopped": "Nothing runs in {state_dir}. Start it: {up}",
    "kept": "The parts of {state_dir} are stopped; users' servers and clusters go on. "
    "Take them over: {up}; end them: {down}",
    "crashed": "The supervisor of {state_dir} (process {pid}) is gone without a clean stop. "
    "Users' servers and clusters may still run. Take them over: {up}; end them: {down}",
    "rebooted": "Nothing runs in {state_dir}: the machine was started anew since. Start it: {up}",
    "silent": "The supervisor of {state_dir} (process {pid}) does not answer. Its log: "
    "{logs}/supervisor.log. End it, and all that it started: {down}",
    "preparing": "The platform of {state_dir} is being prepared (process {pid}).",
}


def status_lines(status: Mapping[str, object], *, now: float | None = None) -> list[str]:
    """What `tidehub status` prints for the answer of `platform_status`."""
    phase = str(status["state"])
    if phase in _PHASES:
        state = Path(str(status["state_dir"]))
        words = {"pid": "unknown", **status, "up": command(state, "up"), "down": command(state, "down")}
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
