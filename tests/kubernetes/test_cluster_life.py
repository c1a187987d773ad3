"""The test cluster ends with whoever started it, and an ordinary user can start it too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_programs import Programs

HERE = Path(__file__).parent
UNPRIVILEGED_UID = 61234
PROGRAM = """
import sys, time
from pathlib import Path
import cluster_programs, local_cluster
programs = cluster_programs.Programs(Path(sys.argv[2]))
with local_cluster.LocalCluster(Path(sys.argv[1]), programs) as cluster:
    print("started", cluster.versions["kubernetes"], flush=True)
    time.sleep(600)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory for a cluster, and nothing left of it afterwards.

    Not below pytest's own: each pytest that starts closes that one to other users.
    """
    with tempfile.TemporaryDirectory(prefix="tidehub-cluster-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        yield directory
        for pid in _processes_of(directory):
            os.kill(pid, signal.SIGKILL)


def _started(
    directory: Path, programs: Path, python: str = sys.executable, uid: int = 0
) -> subprocess.Popen[str]:
    """Another process with a cluster in `directory`, as `uid` where that is not 0; returns once it stands."""
    source = [str(HERE.parent.parent / "src"), str(HERE.parent / "cluster")]
    path = os.pathsep.join(source)
    identity = {"user": uid, "group": uid, "extra_groups": []} if uid else {}
    process: subprocess.Popen[str] = subprocess.Popen(
        [python, "-c", PROGRAM, str(directory), str(programs)],
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": path,
            "HOME": str(directory),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        cwd="/",
        stdout=subprocess.PIPE,
        text=True,
        **identity,  # type: ignore[call-overload]
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    assert said.startswith("started v1."), "the cluster did not start; its error is above"
    return process


def _processes_of(directory: Path) -> list[int]:
    """Processes that have the directory on their command line, apart from the starting one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if f"{directory}/".encode() in words:
                found.append(int(entry.name))
    return found


def _all_gone(directory: Path) -> bool:
    until = time.monotonic() + 20
    while _processes_of(directory):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def test_nothing_outlives_a_killed_starter(place: Path, prepared_programs: Programs) -> None:
    starter = _started(place, prepared_programs.directory)
    assert len(_processes_of(place)) >= 5
    starter.kill()
    starter.wait()
    assert _all_gone(place)


@pytest.mark.root
def test_an_ordinary_user_starts_one(place: Path, prepared_programs: Programs) -> None:
    python = _python_for_everybody()
    os.chown(place, UNPRIVILEGED_UID, UNPRIVILEGED_UID)
    starter = _started(place, prepared_programs.directory, python, UNPRIVILEGED_UID)
    owners = {Path(f"/proc/{pid}").stat().st_uid for pid in _processes_of(place)}
    assert owners == {UNPRIVILEGED_UID}
    starter.kill()
    starter.wait()
    assert _all_gone(place)


def _python_for_everybody() -> str:
    tried = [sys.executable, "/usr/bin/python3"]
    for python in tried:
        try:
            done = subprocess.run(
                [python, "-c", "import kubernetes, cryptography, ruamel.yaml"],
                user=UNPRIVILEGED_UID,
                group=UNPRIVILEGED_UID,
                extra_groups=[],
                cwd="/",
                env={"PATH": "/usr/bin:/bin"},
                capture_output=True,
            )
        except PermissionError:
            continue
        if done.returncode == 0:
            return python
    pytest.skip("the Python of the tests is closed to other users: ./test has one that is open")
