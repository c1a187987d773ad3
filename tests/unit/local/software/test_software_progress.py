"""What a user who waits for a set-up sees."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tidehub.cli.console import PlainSay
from tidehub.local.preparation import _Progress
from tidehub.local.software.installer import Installer
from tidehub.local.software.progress import Counted, with_bar


def test_steps_are_numbered_as_far_as_they_were_announced() -> None:
    one = Counted()
    assert one.numbered("early", counted=True) == "early"
    one.expect(2)
    assert one.numbered("a", counted=True) == "[2/3] a"
    assert one.numbered("between", counted=False) == "between"
    assert one.numbered("b", counted=True) == "[3/3] b"
    assert one.numbered("more", counted=True) == "more"


def test_the_bar_shows_what_is_done() -> None:
    assert with_bar("[1/4] a") == "░░░░░░░░░░░░ [1/4] a"
    assert with_bar("[3/4] a: half", plain=True) == "######------ [3/4] a: half"
    assert with_bar("no number") == "no number"


@pytest.fixture
def uv(tmp_path: Path) -> Path:
    """A uv that says what uv 0.13 says when it installs."""
    program = tmp_path / "uv"
    program.write_text(
        "#!/bin/sh\n[ $1 = venv ] && exit\n"
        "printf 'Resolved 2 packages in 3ms\\nDownloading numpy (15.9MiB)\\nPrepared 2 packages in 9ms\\n' >&2\n"
        "printf 'Installed 2 packages in 2ms\\nBytecode compiled 16 files in 67ms\\n + numpy==2\\n' >&2\n"
    )
    program.chmod(0o755)
    return program


def test_a_log_has_a_line_a_step_and_names_the_compilation(uv: Path, tmp_path: Path) -> None:
    stream = io.StringIO()
    progress = _Progress(PlainSay(stream))
    progress.expect(2)
    lock = tmp_path / "lock.txt"
    lock.write_text("")
    Installer(uv, tmp_path, progress).environment(
        tmp_path / "env", Path(sys.executable), lock, label="the notebook environment"
    )
    assert stream.getvalue() == (
        "[1/2] Installing the notebook environment ...\n"
        "[2/2] Compiling the bytecode of the notebook environment ...\n"
    )


def test_a_terminal_has_a_bar_that_moves() -> None:
    code = (
        "from tidehub.local.software.progress import on_standard_error as make; one = make(); one.expect(2); "
        "one.step('Installing it'); one.detail('Downloading x'); one.step('Compiling it'); one.done()"
    )
    ours, theirs = pty.openpty()
    env = {"PYTHONPATH": ":".join(sys.path), "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    subprocess.run([sys.executable, "-c", code], env=env, stderr=theirs, check=True, timeout=60)
    os.close(theirs)
    shown = os.read(ours, 4096).decode()
    os.close(ours)
    drawn = [line.strip() for line in shown.replace("\n", "").split("\r\x1b[K") if line.strip()]
    assert drawn == [
        "░░░░░░░░░░░░ [1/2] Installing it ...",
        "░░░░░░░░░░░░ [1/2] Installing it: Downloading x",
        "[1/2] Installing it (0 s)",
        "██████░░░░░░ [2/2] Compiling it ...",
        "[2/2] Compiling it (0 s)",
    ]
