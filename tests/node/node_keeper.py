"""Holds a node's namespaces and cleans up after it: `node_keeper.py DIRECTORY CGROUP SCRIPT`.

A process of its own, because a test run can be killed at any moment. It starts the first process of new mount, network
and PID namespaces, which is `SCRIPT` and whose end is that of everything in them, containers included; says its
PID; and waits until standard input ends, as it does when the test run is gone. Then it ends the namespaces and
removes the control groups and the directory. Only the standard library.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

CONTROLLERS = Path("/sys/fs/cgroup")
_PATIENCE = 20.0


def make_groups(name: str) -> None:
    """The control group `name` in every hierarchy of version 1; the CPU's with a large share.

    Shares, because the processes of one session count as one for the scheduler (autogroup), and a test run beside
    is a session with many. In the hierarchy of version 2, where there is one, runc makes its own.
    """
    for hierarchy in _hierarchies():
        if hierarchy.name != "unified":
            (hierarchy / name).mkdir(exist_ok=True)
    (CONTROLLERS / "cpu" / name / "cpu.shares").write_text("20480")
    for setting in ("cpuset.cpus", "cpuset.mems"):
        given = (CONTROLLERS / "cpuset" / setting).read_text()
        (CONTROLLERS / "cpuset" / name / setting).write_text(given)


def remove_groups(name: str) -> None:
    """End what is left in the group and remove it everywhere."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        left = [path for path in (hierarchy / name for hierarchy in _hierarchies()) if path.is_dir()]
        if not left:
            return
        for group in left:
            for folder, _, _ in os.walk(group, topdown=False):
                for pid in _processes(Path(folder)):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
        time.sleep(0.05)


def _hierarchies() -> list[Path]:
    return [path for path in CONTROLLERS.iterdir() if path.is_dir()]


def _processes(group: Path) -> list[int]:
    try:
        return [int(line) for line in (group / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def main(directory: Path, group: str, script: str) -> None:
    """Hold until standard input ends, then clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    make_groups(group)
    with (directory / "init.log").open("wb") as log:
        first = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "--"),
                *("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"),
                *("sh", "-euc", script, "node", str(directory)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    inside = -1
    try:
        while first.poll() is None and not (directory / "ready").exists():
            time.sleep(0.01)
        if first.poll() is None:
            (pid,) = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
            inside = os.pidfd_open(int(pid))
            print(pid, flush=True)
            sys.stdin.buffer.read()
    finally:
        first.kill()
        first.wait()
        if inside >= 0:
            # Its end is reported when nothing of the namespace is left.
            select.select([inside], [], [], _PATIENCE)
        remove_groups(group)
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
