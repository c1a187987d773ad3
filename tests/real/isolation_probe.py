"""Run as a user: try to reach another user's things, and write what happened as JSON to a file.

    python isolation_probe.py RESULT TARGETS-JSON

Uses the standard library alone: inside a sandbox there is nothing else.
"""

# ruff: noqa: PTH208 - names are what the questions are about
from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path


def attempt(action: Callable[[], object]) -> str:
    """The result, or the name of the error."""
    try:
        return f"done: {action()}"
    except OSError as error:
        return type(error).__name__


def connect(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        return client.recv(100).decode()


def environments() -> str:
    """Everything readable in /proc/*/environ but our own."""
    found = b""
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                found += Path("/proc", name, "environ").read_bytes()
            except OSError:
                continue
    return found.decode(errors="replace")


def write(path: str) -> int:
    return Path(path).write_text("999999999999")


def main() -> None:
    target = json.loads(sys.argv[2])
    pid = target["pid"]
    result = {
        "home": attempt(lambda: os.listdir(target["home"])),
        "file": attempt(lambda: Path(target["home"], "secret").read_text()),
        "homes": attempt(lambda: os.listdir(Path(target["home"]).parent)),
        "private": attempt(lambda: os.listdir(target["private"])),
        "environ": attempt(lambda: Path(f"/proc/{pid}/environ").read_bytes()),
        "cwd": attempt(lambda: os.listdir(f"/proc/{pid}/cwd")),
        "root": attempt(lambda: os.listdir(f"/proc/{pid}/root{target['home']}")),
        "memory": attempt(lambda: Path(f"/proc/{pid}/mem").open("rb").close()),
        "socket": attempt(lambda: connect(target["socket"])),
        "cgroups": [attempt(lambda path=path: write(path)) for path in target["cgroups"]],
        "token": target["token"] in environments(),
        "pids": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
        "own": attempt(lambda: Path.home().joinpath("own").write_text("mine")),
        "tmp": os.listdir("/tmp"),
        "system": attempt(lambda: Path("/usr/written").write_text("x")),
        # Last: after it, a server that could be killed answers no more.
        "kill": attempt(lambda: os.kill(pid, signal.SIGTERM)),
    }
    # One finished file: whoever waits for it never reads half of it.
    draft = Path(sys.argv[1] + ".new")
    draft.write_text(json.dumps(result))
    draft.rename(sys.argv[1])


if __name__ == "__main__":
    main()
