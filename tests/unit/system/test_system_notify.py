"""What the service manager is told, on a real socket of its kind."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from tidehub.system import notify


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    name = str(tmp_path / "notify") if request.param == "path" else f"@tidehub-test-{os.getpid()}"
    one.bind(name.replace("@", "\0", 1))
    one.settimeout(5)
    monkeypatch.setenv(notify.SOCKET, name)
    with one:
        yield one


def test_a_manager_that_waits_is_told(manager: socket.socket) -> None:
    assert notify.is_awaited()
    notify.notify(notify.READY, notify.status("serves\n  READY=0 http://x"))
    assert manager.recv(1000) == b"READY=1\nSTATUS=serves READY=0 http://x", "a text cannot add a line"


def test_steps_are_told_to_both(manager: socket.socket) -> None:
    class Say:
        said: ClassVar[list[str]] = []

        def step(self, text: str) -> None:
            self.said.append(text)

        done = note = warn = step

    say = notify.ToldToManager(Say())
    say.step("starting hub")
    say.note("a note")
    assert manager.recv(1000) == b"STATUS=starting hub"
    assert Say.said == ["starting hub", "a note"]


@pytest.mark.parametrize("name", ["", "relative", "/gone/away"])
def test_nobody_listening_is_no_fault(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(notify.SOCKET, name)
    notify.notify(notify.READY)
    monkeypatch.delenv(notify.SOCKET)
    assert not notify.is_awaited()
    notify.notify(notify.READY)


def test_what_goes_to_the_journal_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    assert not notify.writes_to_journal()
    found = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    assert notify.writes_to_journal()
    # Inherited by a program whose output goes elsewhere.
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    assert not notify.writes_to_journal()
