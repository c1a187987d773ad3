"""`tidehub up` as the main process of a service: what its manager is told when it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tidehub.cli import up
from tidehub.cli.console import PlainSay
from tidehub.errors import TidehubError
from tidehub.local import platform
from tidehub.local.places import Places
from tidehub.local.supervisor import session
from tidehub.local.supervisor.platform import UpOptions
from tidehub.system.notify import SOCKET


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    before = signal.getsignal(signal.SIGTERM)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(tmp_path / "notify"))
        one.settimeout(5)
        monkeypatch.setenv(SOCKET, str(tmp_path / "notify"))
        yield one
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def attached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], int]], int]:
    """The exit code of an attached `up` whose session is what is given."""

    def go(run: Callable[[], int]) -> int:
        monkeypatch.setattr(platform, "prepare", lambda places, options: None)
        monkeypatch.setattr(session, "run", lambda *all: run())
        return up._attached(Places(tmp_path / "state"), UpOptions(), PlainSay())

    return go


def term() -> int:
    os.kill(os.getpid(), signal.SIGTERM)
    signal.sigtimedwait([], 5)
    return 1


@pytest.mark.parametrize("run", [lambda: 0, lambda: 1, lambda: 130, term])
def test_an_end_that_was_asked_for_is_never_a_failure(
    manager: socket.socket, attached: Callable[[Callable[[], int]], int], run: Callable[[], int]
) -> None:
    """Before it is ready, hurried, or by a signal in a moment without a handler of the session's."""
    assert attached(run) == 0
    assert [manager.recv(100), manager.recv(100)] == [b"READY=1", b"STOPPING=1"]


def test_a_failure_is_one(manager: socket.socket, attached: Callable[[Callable[[], int]], int]) -> None:
    def fail() -> int:
        raise TidehubError("the port is taken")

    with pytest.raises(TidehubError):
        attached(fail)
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(100)


def test_without_a_manager_the_exit_code_says_how_it_ended(
    attached: Callable[[Callable[[], int]], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SOCKET, raising=False)
    assert [attached(lambda code=code: code) for code in (0, 1, 130)] == [0, 1, 130]  # type: ignore[misc]


def test_a_secret_that_is_missing_is_said_before_any_software_is_fetched(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("""
preset: laptop
site: {name: Reef, url: "https://hub.reef.example", contact: ops@reef.example}
login:
  provider: egi-check-in
  allow: {everyone: true}
  admins: {users: [ann]}
  client_id: hub
""")
    for place in [tmp_path, *tmp_path.parents]:
        if os.geteuid() == 0 and not place.stat().st_mode & 0o001:
            place.chmod(0o755)  # pytest's own directories
    software = tmp_path / "software"
    done = subprocess.run(
        [sys.executable, "-m", "tidehub", "up", site, "--state", tmp_path / "state", "--port", "0"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": ":".join(sys.path),
            "HOME": str(tmp_path),
            "TIDEHUB_SOFTWARE": str(software),
            "PIP_INDEX_URL": "http://127.0.0.1:9",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and "client_secret" in done.stderr, done.stderr
    assert "installing" not in done.stderr.lower() and not (software / "profiles").exists()
