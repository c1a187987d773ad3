"""Directories of people: made privately, never taken over from somebody else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tidehub.errors import TidehubError
from tidehub.local.isolation.homes import (
    SOCKETS_FOR_GROUP,
    make_home,
    make_run_directory,
    make_temporary,
)

ME, MINE = os.getuid(), os.getgid()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


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


def test_a_run_directory_is_put_right(tmp_path: Path) -> None:
    path = make_run_directory(tmp_path, 70000, uid=ME, gid=MINE, mode=SOCKETS_FOR_GROUP)
    assert mode(path) == 0o2710
    path.chmod(0o777)
    make_run_directory(tmp_path, 70000, uid=ME, gid=MINE, mode=SOCKETS_FOR_GROUP)
    assert mode(path) == 0o2710
    path.rmdir()
    path.symlink_to(tmp_path)
    with pytest.raises(TidehubError, match="symbolic link"):
        make_run_directory(tmp_path, 70000, uid=ME, gid=MINE, mode=SOCKETS_FOR_GROUP)


def test_a_private_tmp_is_emptied_only_when_asked(tmp_path: Path) -> None:
    path = make_temporary(tmp_path / ".tmp", "alice", fresh=True)
    (path / "spill").write_text("x")
    assert make_temporary(tmp_path / ".tmp", "alice", fresh=False) == path and (path / "spill").exists()
    make_temporary(tmp_path / ".tmp", "alice", fresh=True)
    assert list(path.iterdir()) == [] and mode(path) == mode(path.parent) == 0o700
