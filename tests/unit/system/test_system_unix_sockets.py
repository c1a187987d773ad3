"""A link in a user's directory leads to no socket of anybody else."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidehub.system import unix_sockets
from tidehub.system.unix_sockets import WrongSocketError, connect, peer_uid


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as name:
        yield Path(name)


def listening(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen()
    return made


def test_the_owners_socket_is_connected(short: Path) -> None:
    with listening(short / "nb.sock:80") as server, connect(short / "nb.sock:80") as client:
        accepted, _ = server.accept()
        with accepted:
            client.sendall(b"hello")
            assert accepted.recv(10) == b"hello"
        assert peer_uid(client) == os.getuid() and not client.getblocking()


def test_a_link_to_another_socket_is_refused(short: Path) -> None:
    (short / "user").mkdir()
    with listening(short / "api.sock") as service:
        (short / "user" / "nb.sock").symlink_to(short / "api.sock")
        with pytest.raises(OSError, match="not a socket"):
            connect(short / "user" / "nb.sock")
        (short / "link").symlink_to(short)
        with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
            connect(short / "link" / "api.sock")
        service.setblocking(False)
        with pytest.raises(BlockingIOError):
            service.accept()


def test_another_users_process_is_refused(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(short / "nb.sock"):
        monkeypatch.setattr(unix_sockets, "peer_uid", lambda made: os.getuid() + 1)
        with pytest.raises(WrongSocketError, match=f"uid {os.getuid() + 1} answers"):
            connect(short / "nb.sock")


def test_nobody_and_a_full_queue_are_said_as_the_kernel_says_them(short: Path) -> None:
    with pytest.raises(FileNotFoundError):
        connect(short / "absent")
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(short / "dead"))
    dead.close()
    with pytest.raises(ConnectionRefusedError):
        connect(short / "dead")
    (short / "file").write_text("")
    with pytest.raises(WrongSocketError):
        connect(short / "file")
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(short / "busy"))
        busy.listen(0)
        waiting = []
        with pytest.raises(BlockingIOError):
            for _ in range(10):
                waiting.append(connect(short / "busy"))
        for one in waiting:
            one.close()
