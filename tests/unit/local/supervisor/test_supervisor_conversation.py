"""How long a silent supervisor is waited for: by what it does meanwhile, and not by the clock alone."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tidehub.local.supervisor import conversation
from tidehub.local.supervisor.conversation import NoAnswer, Silence, ask
from tidehub.local.supervisor.pace import Look
from tidehub.local.supervisor.state import reachable

WORKS = {"state": "R", "running": 0.9}
STARVED = {"state": "R", "running": 0.1, "waiting": 0.8}
WAITS_FOR_THE_DISK = {"state": "D"}
HANGS = {"state": "S", "running": 0.01}
STOPPED = {"state": "T"}


def waited(monkeypatch: pytest.MonkeyPatch, *seconds: dict[str, object]) -> float:
    """For how long a process is waited for that does this in each second; the last one again and again."""
    looks = []
    at = running = waiting = 0.0
    for second in itertools.islice(itertools.chain(seconds, itertools.repeat(seconds[-1])), 300):
        looks.append(Look(at, str(second["state"]), running, waiting))
        at += 1
        running += float(str(second.get("running", 0.0)))
        waiting += float(str(second.get("waiting", 0.0)))
    found = iter(looks)
    monkeypatch.setattr(Look, "at_process", classmethod(lambda cls, pid: next(found)))
    silence = Silence(1)
    with pytest.raises(NoAnswer) as told:
        while True:
            silence.bear()
    return told.value.seconds


@pytest.mark.parametrize(
    ("seconds", "least", "most"),
    [
        ([STOPPED], 1, 2),
        ([HANGS], 9, 10),
        ([WORKS], 60, 60),
        ([STARVED], 60, 60),
        ([WAITS_FOR_THE_DISK], 60, 60),
        ([HANGS, STOPPED, HANGS, STOPPED, *[WORKS] * 20, HANGS], 27, 33),
        ([*[STARVED] * 30, HANGS], 38, 41),
    ],
)
def test_what_hangs_is_given_up_and_what_is_slow_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, seconds: list[dict[str, object]], least: float, most: float
) -> None:
    assert least <= waited(monkeypatch, *seconds) <= most


def test_a_word_begins_the_patience_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    found = (Look(float(at), "S") for at in range(100))
    monkeypatch.setattr(Look, "at_process", classmethod(lambda cls, pid: next(found)))
    silence = Silence(1)
    for _ in range(5):
        for _ in range(8):
            silence.bear()
        silence.broken()


@contextmanager
def sleeping() -> Iterator[int]:
    """A process that does nothing."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def deaf(tmp_path: Path) -> Iterator[Path]:
    """A socket on which nobody accepts, and no more connections fit."""
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as made, socket.socket(socket.AF_UNIX) as first:
        with reachable(path) as name:
            made.bind(name)
            made.listen(0)
            first.connect(name)
        yield path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "LOOK", 0.05)
    monkeypatch.setattr(conversation, "HUNG", 0.2)


@pytest.mark.usefixtures("quick")
def test_one_that_takes_no_connection_is_silent_too(deaf: Path) -> None:
    with sleeping() as pid, pytest.raises(NoAnswer):
        ask(deaf, pid, {"do": "ping"})


@pytest.mark.usefixtures("quick")
def test_an_answer_in_pieces_and_late_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "control.sock"
    monkeypatch.setattr(conversation, "HUNG", 60.0)
    with socket.socket(socket.AF_UNIX) as made:
        with reachable(path) as name:
            made.bind(name)
        made.listen()

        def answer() -> None:
            line, _ = made.accept()
            with line:
                line.recv(1000)
                for piece in (b'{"ok"', b": true", b'}\n{"ok": fal'):
                    threading.Event().wait(0.15)
                    line.sendall(piece)

        answering = threading.Thread(target=answer)
        answering.start()
        assert ask(path, os.getpid(), {"do": "ping"}) == {"ok": True}
        answering.join()


def test_nobody_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        ask(tmp_path / "control.sock", os.getpid(), {"do": "ping"})
