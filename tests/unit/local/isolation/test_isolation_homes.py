"""Directories of users: made privately, never taken over from somebody else."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tidehub.errors import TidehubError
from tidehub.local.hub.server_command import LONGEST_SERVER_NAME, server_directory_name
from tidehub.local.isolation.homes import (
    RUNTIME,
    make_home,
    make_server_directory,
    make_temporary,
    run_directory,
)
from tidehub.local.places import LONGEST_RUN_DIRECTORY
from tidehub.system.unix_sockets import LONGEST_PATH

WaitUntil = Callable[[Callable[[], bool]], None]
ME, MINE = os.getuid(), os.getgid()


def ours() -> dict[str, int]:
    return {"uid": os.geteuid(), "gid": os.getegid()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    made = tmp_path / "run"
    made.mkdir(mode=0o711)
    return made


def test_a_home_is_private_and_kept(tmp_path: Path) -> None:
    home = make_home(tmp_path, "alice", uid=ME, gid=MINE)
    (home / "notes").write_text("kept")
    assert mode(home) == 0o700
    assert make_home(tmp_path, "alice", uid=ME, gid=MINE) == home
    assert (home / "notes").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["alice"]


def test_a_home_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "alice").mkdir()
    with pytest.raises(TidehubError, match=rf"belongs to uid {ME}(.*\n)*.*owned by uid {ME + 1}"):
        make_home(tmp_path, "alice", uid=ME + 1, gid=MINE)


def test_a_link_or_a_file_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "alice").symlink_to("target")
    (tmp_path / "bob").symlink_to("nowhere")
    (tmp_path / "carol").write_text("")
    for name, problem in (("alice", "symbolic link"), ("bob", "symbolic link"), ("carol", "not a directory")):
        with pytest.raises(TidehubError, match=problem):
            make_home(tmp_path, name, uid=ME, gid=MINE)
    assert not (tmp_path / "nowhere").exists()


def test_no_homes_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(TidehubError, match="No such file"):
        make_home(tmp_path / "absent", "alice", uid=ME, gid=MINE)


def test_a_failed_home_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, uid: int, gid: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    with pytest.raises(TidehubError, match="Operation not permitted"):
        make_home(tmp_path, "alice", uid=ME + 1, gid=MINE)
    assert list(tmp_path.iterdir()) == []


def make_server(run: Path, name: str = "default", **changes: int) -> Path:
    wanted = {"uid": ME, "gid": MINE, "sockets_gid": MINE, **changes}
    return make_server_directory(run, 70000, name, **wanted)


def test_a_servers_directory_is_made_anew_in_one_of_ours(run: Path, wait_until: WaitUntil) -> None:
    path = make_server(run)
    assert path == run / "u/70000/default" == run_directory(run, 70000) / "default"
    (path / "nb.sock:80").touch()
    path.chmod(0o777)
    assert make_server(run) == path
    assert [entry.name for entry in path.iterdir()] == ["rt"]
    assert (mode(path), mode(path / "rt")) == (0o2710, 0o700)
    assert mode(path.parent) == mode(path.parent.parent) == 0o711
    wait_until(lambda: not any((run.parent / ".trash").iterdir()))


def test_what_stands_in_its_place_is_moved_away_and_never_followed(
    run: Path, tmp_path: Path, wait_until: WaitUntil
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("kept")
    path = make_server(run)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(kept)
    make_server(run)
    assert not path.is_symlink() and (path / "rt").is_dir()
    wait_until(lambda: not any((run.parent / ".trash").iterdir()))
    assert (kept / "file").read_text() == "kept"


def test_a_run_directory_that_others_can_change_is_refused(run: Path) -> None:
    path = make_server(run)
    path.parent.chmod(0o777)
    with pytest.raises(TidehubError, match="can be changed by others"):
        make_server(run)


def test_the_longest_channel_of_a_kernel_can_be_bound() -> None:
    """Real names of jupyter_client below the longest run directory; what it connects with must bind (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as short:
        run = Path(short) / ("r" * (LONGEST_RUN_DIRECTORY - len(short) - 1))
        run.mkdir()
        assert len(str(run)) == LONGEST_RUN_DIRECTORY
        path = make_server(run, server_directory_name("The longest name of a server"))
        assert len(path.name) == LONGEST_SERVER_NAME
        channel = path / RUNTIME / f"kernel-{uuid.uuid4()}-ipc-10"
        assert len(str(channel)) == LONGEST_PATH
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(channel))


def test_a_private_tmp_is_emptied_only_when_asked(tmp_path: Path, wait_until: WaitUntil) -> None:
    path = make_temporary(tmp_path, "alice", fresh=True, **ours())
    (path / "spill").write_text("x")
    assert make_temporary(tmp_path, "alice", fresh=False, **ours()) == path and (path / "spill").exists()
    path.chmod(0)
    make_temporary(tmp_path, "alice", fresh=True, **ours())
    assert list(path.iterdir()) == [] and mode(path) == mode(path.parent) == 0o700
    wait_until(lambda: not any((tmp_path / ".trash").iterdir()))
