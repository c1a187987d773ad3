"""As an ordinary user: sandboxes, and the one user at a time without them. See isolation_scenarios.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import isolation_scenarios
import pytest
from isolation_programs import UIDS, processes_with

import tidehub
from tidehub.local.isolation.bubblewrap import obstacle

pytestmark = pytest.mark.real

HERE = Path(__file__).parent
USER = UIDS.stop - 1 if os.geteuid() == 0 else os.getuid()
SCENARIOS = [name for name in vars(isolation_scenarios) if name.startswith(("bubblewrap_", "single_"))]


@pytest.fixture
def ground() -> Iterator[Path]:
    """A directory of the user's own, and code that they can read (a checkout may lie where they cannot)."""
    root = Path(tempfile.mkdtemp(prefix="iso-"))
    package = Path(tidehub.__file__).parent
    # All of it, where every uid can read it; only what needs the standard library alone is imported.
    shutil.copytree(package, root / "code/tidehub", ignore=shutil.ignore_patterns("__pycache__"))
    for file in HERE.glob("isolation_*.py"):
        shutil.copy(file, root / "code")
    subprocess.run(["chmod", "-R", "a+rX", str(root)], check=True)
    (root / "state").mkdir()
    if os.geteuid() == 0:
        os.chown(root / "state", USER, USER)
    yield root
    shutil.rmtree(root)


def run(ground: Path, *words: str) -> None:
    interpreter = next(
        (
            found
            for name in ("python3.13", "python3.12", "python3.11")
            if (found := shutil.which(name, path="/usr/bin"))
        ),
        sys.executable,
    )
    # Not in the test's own interpreter: it may lie in a directory that only root can enter.
    identity = {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}
    done = subprocess.run(
        [
            interpreter,
            str(ground / "code/isolation_scenarios.py"),
            words[0],
            str(ground / "state"),
            *words[1:],
        ],
        env={"PYTHONPATH": str(ground / "code"), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        **identity,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, done.stderr
    if os.geteuid() == 0:
        assert processes_with("", [USER]) == []


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(ground: Path, name: str) -> None:
    if name.startswith("bubblewrap") and (found := obstacle()):
        pytest.skip(found.what)
    run(ground, name)


@pytest.mark.parametrize("kind", ["bubblewrap", "single"])
def test_memory_is_limited(ground: Path, kind: str) -> None:
    if kind == "bubblewrap" and (found := obstacle()):
        pytest.skip(found.what)
    run(ground, "memory_is_limited_per_process", kind)
