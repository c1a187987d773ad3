"""By what name a program that has taken a port is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tidehub.local.front.ports import find_holder

LISTEN = (
    "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); "
)


@pytest.mark.parametrize("way", ["a script", "a module"])
def test_a_program_of_an_interpreter_goes_by_what_it_runs(way: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        f"{LISTEN}open('/proc/self/comm', 'w').write('MainThread'); sys.stdin.read()"
    )
    words = (
        [str(tmp_path / "mine.py"), "--password=x"] if way == "a script" else ["-m", "mine", "--password=x"]
    )
    with subprocess.Popen(
        [sys.executable, *words], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout is not None and started.stdin is not None
        port = int(started.stdout.readline())
        while Path(f"/proc/{started.pid}/comm").read_text() != "MainThread\n":
            pass
        holder = find_holder(port)
        assert holder is not None and holder.pid == started.pid
        assert holder.name == f"{Path(sys.executable).name} {'mine.py' if way == 'a script' else '-m mine'}"
        assert "MainThread" not in str(holder) and "password" not in str(holder)
        started.stdin.close()
