from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tidehub.errors import TidehubError
from tidehub.local import places as module
from tidehub.local import room
from tidehub.local.places import LONGEST_RUN_DIRECTORY, Places, default_state_dir
from tidehub.system import trash


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def made(state: Path) -> Places:
    return Places.of(state).ensure(other_users=False)


def test_of_makes_nothing(state: Path) -> None:
    places = Places.of(state)
    assert not places.exists
    assert not state.exists()


def test_ensure_makes_everything_with_its_mode_whatever_the_umask(state: Path) -> None:
    before = os.umask(0)
    try:
        places = made(state)
    finally:
        os.umask(before)
    try:
        assert mode(places.state) == mode(places.homes) == mode(places.services) == mode(places.run) == 0o711
        assert mode(places.private) == mode(places.logs) == mode(places.server_logs) == 0o700
        assert mode(places.id_file) == 0o600
    finally:
        places.remove_run()
    assert not places.run.exists()


def test_stopping_takes_one_rename_and_starting_goes_on_with_the_trash(
    state: Path, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[[Callable[[], bool]], None]
) -> None:
    places = made(state)
    deep = places.run / "u/70000/default/rt"
    deep.mkdir(parents=True)
    monkeypatch.setattr(trash, "sweep", lambda *trashes: None)  # as if the machine went down now
    places.remove_run()
    assert not places.run.exists() and any(trash.beside(places.run).iterdir())
    (places.homes / ".new-0123").mkdir()
    monkeypatch.undo()
    made(state)
    wait_until(lambda: not any((places.homes / ".trash").iterdir()))
    wait_until(lambda: not any(trash.beside(places.run).iterdir()))
    assert [path.name for path in places.homes.iterdir()] == [".trash"]
    places.remove_run()


def test_the_id_stays_and_moves_with_the_state(state: Path, tmp_path: Path) -> None:
    first = made(state)
    first.remove_run()
    again = made(state)
    assert again.platform_id == first.platform_id
    assert len(first.platform_id) == 8
    assert again.run == first.run
    again.remove_run()
    moved = tmp_path / "moved"
    state.rename(moved)
    assert Places.of(moved).platform_id == first.platform_id


def test_two_states_have_two_run_directories_short_and_lower_case(tmp_path: Path) -> None:
    one, two = made(tmp_path / "One"), made(tmp_path / "Two")
    try:
        assert one.run != two.run
        for places in (one, two):
            assert str(places.run) == str(places.run).lower()
            assert len(str(places.run)) <= LONGEST_RUN_DIRECTORY
    finally:
        one.remove_run()
        two.remove_run()


def test_modes_that_somebody_changed_are_repaired(state: Path) -> None:
    places = made(state)
    places.private.chmod(0o755)
    made(state).remove_run()
    assert mode(places.private) == 0o700


def test_foreign_files_are_refused_and_left_alone(state: Path) -> None:
    state.mkdir()
    (state / "thesis.tex").write_text("years of work")
    with pytest.raises(TidehubError, match=r"thesis\.tex") as refused:
        made(state)
    assert "--state" in str(refused.value)
    assert sorted(path.name for path in state.iterdir()) == ["thesis.tex"]


def test_an_interrupted_first_set_up_is_resumed(state: Path) -> None:
    (state / "private").mkdir(parents=True)
    made(state).remove_run()


def test_a_file_in_its_place_is_refused(state: Path) -> None:
    state.write_text("")
    with pytest.raises(TidehubError, match="Not a directory"):
        made(state)


def test_a_link_in_place_of_the_private_directory_is_refused(state: Path, tmp_path: Path) -> None:
    state.mkdir()
    (state / "private").symlink_to(tmp_path)
    with pytest.raises(TidehubError, match="symbolic link"):
        made(state)


def test_a_parent_that_lets_nobody_through_is_named_in_root_mode(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(TidehubError) as refused:
        Places.of(closed / "state").ensure(other_users=True)
    # pytest's own directories above may be closed too: the outermost is named, with its remedy.
    named = str(refused.value).split(" ")[0]
    assert str(closed).startswith(named)
    assert f"chmod o+x {named}" in str(refused.value)
    assert not (closed / "state").exists()


def test_a_full_disk_is_said_with_what_is_free(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "room", lambda places: room.Room(2**30, 5 * 2**20, 0))
    with pytest.raises(TidehubError, match="5 MiB are free"):
        made(state)


def test_another_users_state_is_refused(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state.mkdir()
    mine = os.geteuid()
    monkeypatch.setattr(module.os, "geteuid", lambda: mine + 1)
    with pytest.raises(TidehubError, match=f"belongs to uid {mine}"):
        made(state)


def test_a_damaged_id_says_what_to_do(state: Path) -> None:
    places = made(state)
    places.remove_run()
    places.id_file.write_text("?")
    with pytest.raises(TidehubError, match="damaged") as refused:
        made(state)
    assert "remove it" in str(refused.value)


def test_the_default_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert default_state_dir() == Path("/home/someone/.local/state/tidehub")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert default_state_dir() == Path("/home/someone/.local/state/tidehub")
    monkeypatch.setenv("XDG_STATE_HOME", "/elsewhere")
    assert default_state_dir() == Path("/elsewhere/tidehub")
    monkeypatch.setattr(module.os, "geteuid", lambda: 0)
    assert default_state_dir() == Path("/var/lib/tidehub")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make directories of others")
@pytest.mark.parametrize(
    ("uid", "mode", "problem"), [(70123, 0o755, "belongs to uid 70123"), (0, 0o777, "every user")]
)
def test_root_keeps_no_state_where_others_can_exchange_it(
    tmp_path: Path, uid: int, mode: int, problem: str
) -> None:
    above = tmp_path / "above"
    above.mkdir()
    os.chown(above, uid, uid)
    above.chmod(mode)
    with pytest.raises(TidehubError, match=problem):
        Places(above / "state").ensure()
    above.chmod(mode | 0o1000)
    if uid == 0:
        Places(above / "state").require_own_parents()
    assert not (above / "state").exists()


def test_a_disk_without_files_left_is_short_too(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty files take no bytes, and a file system holds only so many."""
    roomy = room.Room(2**40, 2**39, 2**39, files=10**6, all_files=10**7)
    for now, told in (
        (roomy, ""),
        (replace(roomy, files=19_999), "19999 more files can be made"),
        (replace(roomy, files=0, all_files=0), ""),  # btrfs counts none
        (replace(roomy, users=2**20), "1 MiB are free, and a new server or cluster needs 512 MiB"),
    ):
        monkeypatch.setattr(room, "room", lambda places, now=now: now)
        said = room.shortage(made(state))
        assert told in said and bool(told) == bool(said)
        assert not said or str(state) in said


def test_a_disk_is_named_with_what_is_mounted(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"20 1 {os.major(device)}:{os.minor(device)} / /srv rw - ext4 /dev/sdb1 rw\n20 1 0:0 / / rw - x /dev/x\n"
    )
    assert room.disk_name(tmp_path, mounts) == f"{tmp_path} on /dev/sdb1"
    assert room.disk_name(tmp_path, tmp_path / "absent") == str(tmp_path)
