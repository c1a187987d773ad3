"""A Tab in the real shells, for a program that is on the path, and for a checkout's that is not."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tidehub.program import CHECKOUT

SECONDS = 60.0
WORDS = [
    ("lo", "logs"),
    ("up --det", "--detach"),
    ("secrets ro", "rotate"),
    ("explain notebooks.memory.lim", "notebooks.memory.limit"),
    ("init --preset pro", "protocoast"),
    ("logs --state STATE pro", "proxy"),
    ("status --target k", "kubernetes"),
]
needs_zsh = pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
needs_fish = pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")


@pytest.fixture(params=["on the path", "in its checkout"])
def program(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the program is called in this directory, where a state with one log is."""
    here = tmp_path / "my hub"
    place = here if request.param == "in its checkout" else tmp_path / "bin"
    here.mkdir()
    place.mkdir(exist_ok=True)
    script = place / "tidehub"
    script.write_text(
        f'#!/bin/sh\nPYTHONPATH={shlex.quote(":".join(sys.path))} exec {sys.executable} -m tidehub "$@"\n'
    )
    script.chmod(0o755)
    (here / "state" / "logs").mkdir(parents=True)
    (here / "state" / "logs" / "proxy.log").write_text("")
    for name in [name for name in os.environ if name.startswith(("TIDEHUB_", "ZDOTDIR", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.chdir(here)
    if request.param == "on the path":
        monkeypatch.setenv("PATH", f"{place}:/usr/bin:/bin")
        return "tidehub"
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv(CHECKOUT, str(here))  # as bootstrap/enter.py sets it
    return "./tidehub"


def script_for(shell: str, program: str) -> str:
    return subprocess.run([program, "completion", shell], capture_output=True, text=True, check=True).stdout


class Terminal:
    """What is typed into an interactive program, and what it shows."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._shown = ""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Reads on until it is there, and forgets what was before the end of it."""
        until = time.monotonic() + SECONDS
        while not (found := re.search(pattern, self._shown)):
            if not select.select([self._descriptor], [], [], max(0.0, until - time.monotonic()))[0]:
                raise AssertionError(f"no {pattern} in {self._shown!r}")
            self._shown += os.read(self._descriptor, 65536).decode(errors="replace")
        self._shown = self._shown[found.end() :]
        return found


@contextmanager
def interactive(*argv: str) -> Iterator[Terminal]:
    child, descriptor = pty.fork()
    if not child:
        os.execvp(argv[0], argv)
    try:
        yield Terminal(descriptor)
    finally:
        os.close(descriptor)  # which ends it, as a terminal that goes away does
        os.waitpid(child, 0)


@needs_zsh
def test_a_tab_in_zsh(program: str) -> None:
    Path("complete.zsh").write_text(script_for("zsh", program))
    # A key that shows the line as it stands: keys are taken in turn, so it is pressed when the Tab is done.
    Path("start.zsh").write_text(
        "autoload -U compinit && compinit -u -D\nsource complete.zsh\n"
        "show() { print -r -- \"LINE[$BUFFER]\" }\nzle -N show\nbindkey '^T' show\nprint READY\n"
    )
    with interactive("zsh", "-f", "-i") as terminal:
        terminal.type("source ./start.zsh\n")
        terminal.wait_for(r"READY\r\n")
        for typed, expected in WORDS:
            line = f"{program} {typed}".replace("STATE", "state")
            terminal.type(f"{line}\t\x14")
            shown = terminal.wait_for(r"LINE\[([^\]]*)\]")[1]
            assert shown == f"{line.rsplit(' ', 1)[0]} {expected} "
            terminal.type("\x15")  # the line is emptied


@needs_fish
def test_a_tab_in_fish(program: str) -> None:
    Path("complete.fish").write_text(script_for("fish", program))
    asked = "\n".join(
        f"echo 'ASKED'; complete -C '{program} {typed}'".replace("STATE", "state") for typed, _ in WORDS
    )
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source complete.fish\n{asked}"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    answers = done.stdout.split("ASKED\n")[1:]
    offered = [[line.split("\t")[0] for line in answer.splitlines()] for answer in answers]
    assert len(offered) == len(WORDS)
    for found, (typed, expected) in zip(offered, WORDS, strict=True):
        assert expected in found, (typed, found)
