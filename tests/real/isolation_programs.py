"""Programs that stand for users' work, and the ground they run on; shared by the isolation tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tidehub.local.isolation import Isolation, LaunchSpec, Limits, ProcessHandle, User
from tidehub.local.logs.pipes import settle
from tidehub.local.logs.writer import LogWriter

PROBE = Path(__file__).with_name("isolation_probe.py")
MIB = 1 << 20
_FIRST = 300_000 + os.getpid() % 10_000 * 200
UIDS = range(_FIRST, _FIRST + 200)
"""Of this run alone: other platforms may run on the machine with the usual range."""
TOKEN = "token-of-alice"

SERVER = """
import os, socket, subprocess, sys
home, path = sys.argv[1:3]
open(home + "/secret", "w").write("secret")
listener = socket.socket(socket.AF_UNIX); listener.bind(path); os.chmod(path, 0o660); listener.listen()
open(home + "/ready", "w").close()
while True:
    connection, _ = listener.accept()
    connection.sendall(b"hello"); connection.close()
"""

FAMILY = """
import os, subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(600)", sys.argv[-1]]
middle = "import subprocess, sys; subprocess.Popen(sys.argv[1:], start_new_session=True)"
subprocess.Popen(sleep, start_new_session=True)
subprocess.run([sys.executable, "-c", middle, *sleep], check=True)
open("ready", "w").close()
{then}
"""
"""One child in a session of its own, one more that was orphaned as well."""


def python() -> str:
    """An interpreter that every user of this machine can run."""
    found = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    assert found, "the system's own python3 is needed: programs of users run on it"
    return found


def places(root: Path) -> Any:
    root.chmod(0o711)
    made = SimpleNamespace(
        private=root / "private",
        homes=root / "homes",
        run=root / "run",
        logs=root / "logs",
        log_pipes=root / "run" / "logs",
        platform_id=root.name,
    )
    for path, mode in ((made.private, 0o700), (made.homes, 0o711), (made.run, 0o711), (made.logs, 0o700)):
        path.mkdir(exist_ok=True)
        path.chmod(mode)
    return made


def spec(
    isolation: Isolation, user: User, code: str, *words: str, name: str = "lab", **more: Any
) -> LaunchSpec:
    """A Python program as this user; its last argument is their home, by which its processes can be found."""
    made = LaunchSpec(
        name,
        user,
        [python(), "-c", code, *words, str(user.home)],
        {"PATH": "/usr/bin:/bin"},
        user.home,
        isolation.ground.logs / "servers" / user.home.name / f"{name}.log",
    )
    return replace(made, **more)


@contextlib.contextmanager
def log_writer(isolation: Isolation) -> Iterator[LogWriter]:
    """The part `logs` of a platform, in a thread."""
    writer = LogWriter(isolation.ground.logs, isolation.ground.log_pipes, lambda line: line)
    thread = threading.Thread(target=writer.run)
    thread.start()
    try:
        yield writer
    finally:
        writer.stop()
        thread.join()


def written(isolation: Isolation, made: LaunchSpec) -> str:
    """What a program wrote to its log, all of it."""
    settle(isolation.ground.log_pipes, isolation.ground.logs, made.log, 30)
    # The writer may not have come to the pipe of a program that said nothing.
    return made.log.read_text() if made.log.exists() else ""


def server_spec(isolation: Isolation, user: User, **more: Any) -> tuple[LaunchSpec, Path]:
    directory = isolation.make_server_directory(user, "lab")
    socket = directory / "lab.sock"
    made = spec(isolation, user, SERVER, str(user.home), str(socket), writable=(directory,), **more)
    return replace(made, env={**made.env, "JUPYTERHUB_API_TOKEN": TOKEN}), socket


async def appears(path: Path, seconds: float = 60.0) -> Path:
    """Wait for a file that another process makes."""
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not appear"
        await asyncio.sleep(0.02)
    return path


async def holds(what: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something is true of a process that cannot tell us itself."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "this never came true"
        await asyncio.sleep(0.02)


async def ended(isolation: Isolation, handle: ProcessHandle, seconds: float = 60.0) -> None:
    await holds(lambda: not isolation.alive(handle), seconds)


async def probe(
    isolation: Isolation, user: User, victim: User, handle: ProcessHandle, socket: Path
) -> dict[str, Any]:
    """What `user` can reach of `victim`."""
    target = {
        "home": str(victim.home),
        "private": str(isolation.ground.private),
        "pid": handle.pid,
        "socket": str(socket),
        "cgroups": [
            f"{directory}/{file}"
            for directory in handle.cgroup
            for file in ("memory.limit_in_bytes", "memory.max")
        ],
        "token": TOKEN,
    }
    result = user.home / "probe.json"
    code = PROBE.read_text()
    made = spec(
        isolation,
        user,
        code,
        str(result),
        json.dumps(target),
        name="probe",
        limits=Limits(memory=512 * MIB),
    )
    running = await isolation.start(made)
    await ended(isolation, running)
    log = written(isolation, made)
    assert result.exists(), f"{isolation.ending(running).words()}: {log}"
    isolation.clean(running)
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def processes_with(word: str, uids: Sequence[int]) -> list[int]:
    """Pids of these users whose command line holds `word`; zombies have none."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            mine = process.name.isdigit() and process.stat().st_uid in uids
            line = (process / "cmdline").read_bytes() if mine else b""
        except OSError:
            continue
        if line and word.encode() in line:
            found.append(int(process.name))
    return found
