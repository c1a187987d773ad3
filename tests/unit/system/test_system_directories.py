"""Directories for other users are made whole in ours, or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tidehub.errors import TidehubError
from tidehub.system.directories import Directory, File, look, opened, place_new, refuse_strange

ME, MINE = os.getuid(), os.getgid()
WHOLE = Directory(
    ME, MINE, 0o2710, {"inner": Directory(ME, MINE, 0o750, {"deep": File(b"d")}), "file": File(b"f")}
)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o027, 0o077, 0o777])
def test_modes_are_what_was_asked_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with opened(tmp_path) as parent:
            place_new(parent, "new", WHOLE)
    finally:
        os.umask(before)
    modes = {
        path: stat.S_IMODE((tmp_path / path).lstat().st_mode) for path in ("new", "new/inner", "new/file")
    }
    assert modes == {"new": 0o2710, "new/inner": 0o750, "new/file": 0o600}
    assert (tmp_path / "new/inner/deep").read_bytes() == b"d"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_what_another_user_can_change_is_not_used(tmp_path: Path) -> None:
    for mode in (0o770, 0o707, 0o1777):
        tmp_path.chmod(mode)
        with pytest.raises(TidehubError, match="can be changed by others"), opened(tmp_path):
            pass
    tmp_path.chmod(0o700)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(TidehubError, match="cannot use this directory"), opened(tmp_path / "link"):
        pass


def test_a_place_that_is_taken_stays_as_it_is_and_no_draft_is_left(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "work").write_text("kept")
    with pytest.raises(TidehubError), opened(tmp_path) as parent:
        place_new(parent, "new", WHOLE)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert (tmp_path / "new" / "work").read_text() == "kept"


@pytest.mark.parametrize("step", ["mkdir", "fchown", "rename"])
def test_a_step_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    usual, calls = getattr(os, step), []

    def fail(*words: object, **more: object) -> object:
        calls.append(words)
        if len(calls) == (2 if step == "mkdir" else 1):
            raise OSError(28, "No space left on device")
        return usual(*words, **more)

    monkeypatch.setattr(os, step, fail)
    owner = ME + 1 if step == "fchown" else ME
    wanted = Directory(owner, MINE, 0o700, {"file": File(b"f"), "inner": Directory(owner, MINE)})
    with pytest.raises(TidehubError, match="No space left"), opened(tmp_path) as parent:
        place_new(parent, "new", wanted)
    assert calls and list(tmp_path.iterdir()) == []


def test_a_look_does_not_follow(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with opened(tmp_path) as parent:
        assert look(parent, "nothing") is None
        found = look(parent, "link")
    assert found is not None
    with pytest.raises(TidehubError, match="home directory is a symbolic link"):
        refuse_strange(tmp_path / "link", found, ME, "home directory", fix="remove it")
