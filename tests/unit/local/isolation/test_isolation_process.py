"""Processes by pid and start time; trees."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from tidehub.errors import TidehubError
from tidehub.local.isolation.launches import ProcessHandle, handle_alive
from tidehub.local.isolation.trees import kill_all, members, related
from tidehub.system.processes import Stat, boot_id, is_alive, parse_stat, read_stat, send, wait_end

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def test_a_command_with_parentheses_and_spaces() -> None:
    line = "77 (a) R 1 (b c) S 5 6 7 0 -1 4194304 1 2 3 4 250 150 0 0 20 0 1 0 987654 10 20"
    assert parse_stat(line) == Stat(
        pid=77,
        state="S",
        parent=5,
        session=7,
        cpu_seconds=400 / os.sysconf("SC_CLK_TCK"),
        faults=3,
        started=987654,
    )


def handle_of(pid: int) -> ProcessHandle:
    found = read_stat(pid)
    assert found is not None
    return ProcessHandle(pid=pid, started=found.started, boot=boot_id())


def test_a_reused_pid_is_not_taken_for_the_process() -> None:
    me = handle_of(os.getpid())
    assert handle_alive(me)
    assert not handle_alive(replace(me, started=me.started + 1))
    assert not handle_alive(replace(me, boot="another boot"))
    assert not send(me.pid, me.started + 1, signal.SIGKILL)
    assert members(replace(me, started=me.started + 1)) == frozenset()


async def test_a_zombie_has_ended() -> None:
    child = subprocess.Popen(SLEEP)
    handle = handle_of(child.pid)
    assert not await wait_end(handle.pid, handle.started, 0.01)
    assert send(handle.pid, handle.started, signal.SIGKILL)
    assert await wait_end(handle.pid, handle.started, 10)
    left = read_stat(child.pid)
    assert left is not None and left.state == "Z"
    assert not is_alive(handle.pid, handle.started)
    assert child.wait() == -9
    assert await wait_end(handle.pid, handle.started, 0)


def test_state_survives_json() -> None:
    handle = ProcessHandle(7, 8, ("/a", "/b"), "boot", 2, 1 << 30, "mark", 5, 6)
    assert ProcessHandle.from_state(json.loads(json.dumps(handle.to_state()))) == handle
    assert ProcessHandle.from_state({"pid": 1, "started": 2}) == ProcessHandle(1, 2)


@pytest.mark.parametrize(
    "state", [{}, {"pid": 1}, {"pid": "x", "started": 1}, {"pid": None, "started": 1}, []]
)
def test_damaged_state_is_said(state: dict[str, object]) -> None:
    with pytest.raises(TidehubError, match="saved state of a process is damaged"):
        ProcessHandle.from_state(state)


def stat(pid: int, parent: int, session: int) -> Stat:
    return Stat(pid=pid, state="S", parent=parent, session=session, cpu_seconds=0.0, faults=0, started=pid)


def test_relatives_are_descendants_and_their_sessions() -> None:
    table = [
        stat(1, 0, 1), stat(10, 1, 10), stat(11, 10, 10), stat(12, 11, 12), stat(13, 1, 12), stat(14, 13, 14),
        stat(20, 1, 20), stat(21, 20, 20), stat(15, 1, 10),
    ]  # fmt: skip
    assert related(10, {one.pid: one for one in table}) == {10, 11, 12, 13, 14, 15}
    assert related(99, {one.pid: one for one in table}) == set()


def test_a_mark_finds_who_detached() -> None:
    """The middle process starts a session and ends: its child descends from nobody in the tree any more."""
    script = (
        "import subprocess, sys; print(subprocess.Popen(sys.argv[1:], start_new_session=True, stdout=2).pid)"
    )
    env = {**os.environ, "TIDEHUB_PROCESS": "m4rk"}
    first = subprocess.run(
        [sys.executable, "-c", script, *SLEEP], env=env, stdout=subprocess.PIPE, check=True
    )
    lost = handle_of(int(first.stdout))
    try:
        gone = ProcessHandle(pid=2**22 + 1, started=1, mark="m4rk")
        assert (lost.pid, lost.started) in members(gone)
        assert members(replace(gone, mark="other")) == frozenset()
        kill_all(gone)
        assert not handle_alive(lost)
    finally:
        send(lost.pid, lost.started, signal.SIGKILL)
