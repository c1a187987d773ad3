"""Nothing that the bench starts outlives it, however it hides."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tidehub_bench.processes import descendants, parents
from tidehub_bench.side import clean_environment, free_ports

BENCH = Path(__file__).resolve().parents[3] / "bench"
SOURCE = BENCH.parent / "src"


def run_inside(body: str, tmp_path: Path) -> str:
    """Run `body` with a `Programs` in a process of its own: being a subreaper is for a whole process."""
    program = "\n".join(
        [
            "import os, subprocess, sys, time",
            "from pathlib import Path",
            "from tidehub_bench.processes import Programs, descendants",
            f"logs = Path({str(tmp_path)!r})",
            textwrap.dedent(body),
        ]
    )
    env = {**os.environ, "PYTHONPATH": f"{BENCH}:{SOURCE}"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def alive(pid: int) -> bool:
    return pid in parents()


DETACHED = "sh -c 'setsid sh -c \"trap : TERM; echo $$; while :; do sleep 1; done\" & sleep 0.3'"


def test_a_detached_process_that_ignores_the_request_is_ended(tmp_path: Path) -> None:
    run_inside(
        f"""
        with Programs(logs) as programs:
            child = programs.start("one", ["sh", "-c", {DETACHED!r}], env=dict(os.environ), cwd=logs)
            child.wait()
            while not (logs / "one.log").read_text().strip():
                time.sleep(0.02)
        """,
        tmp_path,
    )
    pid = int((tmp_path / "one.log").read_text().split()[0])
    assert not alive(pid)


def test_stopping_a_program_takes_what_is_below_it(tmp_path: Path) -> None:
    printed = run_inside(
        """
        with Programs(logs) as programs:
            script = "setsid sleep 100 & echo $!; wait"
            child = programs.start("one", ["sh", "-c", script], env=dict(os.environ), cwd=logs)
            while not (logs / "one.log").read_text().strip():
                time.sleep(0.02)
            programs.stop(child, patience=5)
            print(len(descendants([os.getpid()])))
        """,
        tmp_path,
    )
    assert printed == "0"
    assert not alive(int((tmp_path / "one.log").read_text().split()[0]))


def test_the_end_of_a_log_is_told(tmp_path: Path) -> None:
    printed = run_inside(
        """
        with Programs(logs) as programs:
            programs.start("one", ["sh", "-c", "seq 1 20; echo oops >&2"], env=dict(os.environ), cwd=logs).wait()
            print(programs.tail("one", 2), "|", programs.tail("other"))
        """,
        tmp_path,
    )
    assert printed == "20\noops | (no log)"


def test_descendants_follow_parents_only() -> None:
    known = {2: 1, 3: 2, 4: 3, 5: 1, 1: 0}
    assert descendants([2], known) == {3, 4}
    assert descendants([2, 3], known) == {3, 4}
    assert descendants([4], known) == set()


def test_programs_get_no_more_of_the_environment_than_named(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"HOME": "/home/x", "JUPYTERHUB_API_TOKEN": "t", "PYTHONPATH": "/p", "TIDEHUB_SOFTWARE": "/s"}
    found = clean_environment({"A": "1"}, environ)
    assert found["A"] == "1"
    assert found["TIDEHUB_SOFTWARE"] == "/s"
    assert found["PATH"].split(":")[0] == str(Path(sys.executable).parent)
    assert set(found) == {"HOME", "TIDEHUB_SOFTWARE", "PATH", "A"}


def test_free_ports_differ() -> None:
    assert len(set(free_ports(5))) == 5
