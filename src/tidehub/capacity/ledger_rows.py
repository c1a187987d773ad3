"""The rows of the ledger: what they mean, and whether they are whole. Reads /proc for who asks; else pure."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Mapping
from typing import Any, Protocol

from tidehub.capacity.queue import Reservation
from tidehub.system.processes import boot_id, start_ticks

WAITING, STARTING, RUNNING = "waiting", "starting", "running"
MOST_MEMORY = 2**50
"""Bytes; a row that reservations more is damaged, and would keep everybody waiting."""
MOST_CORES = 2**20


class Process(Protocol):
    """A process that can be written down, such as `local.isolation.ProcessHandle`."""

    def to_state(self) -> dict[str, Any]: ...


def to_reservation(row: sqlite3.Row) -> Reservation:
    """The reservation that a row is about."""
    return Reservation(
        row["id"], row["kind"], row["owner"], row["memory"], row["cores"], bool(row["start_slot"])
    )


def process_text(process: Process | Mapping[str, Any]) -> str:
    """A process as the ledger keeps it."""
    return json.dumps(dict(process) if isinstance(process, Mapping) else process.to_state(), sort_keys=True)


def identity_of_this_process() -> str:
    """Boot, pid and start time of the asker."""
    pid = os.getpid()
    return f"{boot_id()}:{pid}:{start_ticks(pid)}"


def is_running(asker: str) -> bool:
    """Whether the asker still runs."""
    boot, pid, ticks = asker_parts(asker)
    return boot == boot_id() and start_ticks(int(pid)) == int(ticks)


def asker_parts(text: str) -> tuple[str, str, str]:
    """Boot, pid and start time; the boot is empty in what an earlier version wrote."""
    boot, pid, ticks = f"::{text}".rsplit(":", 2)
    return boot.lstrip(":"), pid, ticks


def of_this_boot(asker: str) -> bool:
    """Whether it was written down since this machine booted: times of another boot say nothing now."""
    return asker_parts(asker)[0] == boot_id()


def readable(row: sqlite3.Row) -> bool:
    """Whether a row is one that this module wrote: sqlite keeps anything in any column."""
    texts = all(isinstance(row[name], str) for name in ("id", "kind", "owner", "state", "asker"))
    if not texts or row["state"] not in (WAITING, STARTING, RUNNING):
        return False
    numbers = isinstance(row["cores"], int | float) and isinstance(row["seen"], int | float)
    if not numbers or not isinstance(row["memory"], int) or row["start_slot"] not in (0, 1):
        return False
    if (
        not 0 <= row["memory"] <= MOST_MEMORY
        or not 0 <= row["cores"] <= MOST_CORES
        or not _whole(*asker_parts(row["asker"])[1:])
    ):
        return False
    return row["process"] is None or _is_process(row["process"])


def _whole(*texts: str) -> bool:
    return all(re.fullmatch(r"-?[0-9]{1,19}", text) for text in texts)


def _is_process(text: object) -> bool:
    try:
        state = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return False
    if not isinstance(state, dict) or not isinstance(state.get("pid"), int):
        return False
    counts = ("started", "kills_at_start", "keeper", "keeper_started", "memory_limit")
    paths = state.get("cgroup", [])
    return (
        "started" in state
        and all(state.get(name) is None or isinstance(state[name], int) for name in counts)
        and isinstance(paths, list)
        and all(isinstance(path, str) for path in paths)
    )
