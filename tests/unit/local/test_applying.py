"""A change of a running platform, when its supervisor says nothing, against a real socket."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tidehub.cli.console import PlainSay
from tidehub.errors import TidehubError, UsageError
from tidehub.local.applying import Running
from tidehub.local.places import Places
from tidehub.local.supervisor.platform import UpOptions
from tidehub.local.supervisor.state import reachable


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        with reachable(tmp_path / "control.sock") as name:
            made.bind(name)
        made.listen()
        yield made


def ask(tmp_path: Path, pid: int = 0) -> None:
    places: Any = SimpleNamespace(
        control=tmp_path / "control.sock", state=tmp_path, supervisor_log=tmp_path / "supervisor.log"
    )
    said: Any = SimpleNamespace(step=lambda text: None)
    wanted: Any = SimpleNamespace(to_json=dict, parts=())
    Running(places, pid or os.getpid(), wanted)._change(wanted, wanted, said)


def test_a_supervisor_that_is_slow_is_not_said_to_have_ended(
    tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidehub.local.supervisor.conversation.LOOK", 0.05)
    monkeypatch.setattr("tidehub.local.supervisor.conversation.HUNG", 0.1)
    with subprocess.Popen(["sleep", "60"]) as hangs:
        with pytest.raises(TidehubError, match="has not answered") as told:
            ask(tmp_path, hangs.pid)
        hangs.kill()
    assert "ended before" not in str(told.value) and "tidehub status" in str(told.value)


def test_the_end_of_a_supervisor_shows_at_once(tmp_path: Path, listener: socket.socket) -> None:
    """Its kernel closes the line; nobody waits for the long silence."""

    def end() -> None:
        line, _ = listener.accept()
        line.recv(1000)
        line.close()

    ending = threading.Thread(target=end)
    ending.start()
    with pytest.raises(TidehubError, match="ended before all was ready"):
        ask(tmp_path)
    ending.join()


def test_a_login_without_its_secret_is_refused_before_anything_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("""
preset: laptop
site: {name: Reef, url: "https://hub.reef.example"}
login: {provider: egi-check-in, client_id: hub, allow: {everyone: true}, admins: {users: []}}
machine: {port: 0}
""")
    places = Places(tmp_path / "state").ensure(other_users=False)
    monkeypatch.setattr(Running, "_apply", lambda *about: pytest.fail("the change began"))
    serves: Any = SimpleNamespace(options=UpOptions().to_json())
    with pytest.raises(UsageError, match="client secret of the identity provider is missing"):
        Running(places, os.getpid(), serves).apply(UpOptions(site_file=site), PlainSay())
