"""What users made is thrown away at once and removed in the background, however deep, wide or closed it is."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tidehub.errors import TidehubError
from tidehub.system import sweeper, trash
from tidehub.system.directories import DRAFT

WaitUntil = Callable[[Callable[[], bool]], None]
AT_ONCE = 2.0
"""Seconds for what is one rename, on a machine that is busy with something else."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "thing"
    made.mkdir()
    yield made
    # pytest's own removal cannot do it.
    subprocess.run(["rm", "-rf", str(tmp_path)], check=False)


def nest(top: Path, depth: int) -> None:
    descriptor = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=descriptor)
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=inner))
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)


def thrown(path: Path) -> float:
    start = time.monotonic()
    assert trash.throw(path)
    trash.sweep(trash.beside(path))
    taken = time.monotonic() - start
    assert not os.path.lexists(path)
    return taken


def empty(path: Path) -> bool:
    return not any((path.parent / ".trash").iterdir())


def test_three_thousand_directories_within_each_other(place: Path, wait_until: WaitUntil) -> None:
    nest(place, 3_000)
    assert thrown(place) < AT_ONCE
    wait_until(lambda: empty(place))


def test_twenty_thousand_files(place: Path, wait_until: WaitUntil) -> None:
    for number in range(20_000):
        os.close(os.open(place / str(number), os.O_CREAT | os.O_WRONLY))
    assert thrown(place) < AT_ONCE
    wait_until(lambda: empty(place))


def test_closed_directories_and_links(place: Path, tmp_path: Path, wait_until: WaitUntil) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("kept")
    for name in ("a", "b", "b/c", "b/c/d"):
        (place / name).mkdir()
    (place / "b/c/link").symlink_to(kept)
    (place / "b/c/d/link").symlink_to(kept / "file")
    os.link(kept / "file", place / "b/second-name")
    os.mkfifo(place / "b/c/pipe")
    for name in ("b/c/d", "b/c", "b", "a", ""):
        (place / name).chmod(0)
    assert thrown(place) < AT_ONCE
    wait_until(lambda: empty(place))
    assert (kept / "file").read_text() == "kept" and (kept / "file").stat().st_nlink == 1


def test_files_and_links_are_thrown_too_and_nothing_is_no_fault(place: Path, wait_until: WaitUntil) -> None:
    link = place.parent / "link"
    link.symlink_to(place)
    assert thrown(link) < AT_ONCE
    assert not trash.throw(link)
    wait_until(lambda: empty(place))
    assert place.is_dir()


def test_a_sweeper_that_was_killed_is_followed_by_the_next(place: Path, wait_until: WaitUntil) -> None:
    nest(place, 200)
    assert trash.throw(place)
    bin_ = trash.beside(place)
    descriptor = os.open(bin_, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    # While another one is at work, a second one leaves at once.
    second = os.open(bin_, os.O_RDONLY)
    argv = [sys.executable, "-I", "-S", str(trash.SWEEPER), str(second)]
    assert subprocess.run(argv, check=False, timeout=60, pass_fds=(second,)).returncode == 0
    os.close(second)
    assert any(bin_.iterdir())
    os.close(descriptor)
    trash.sweep(bin_)
    wait_until(lambda: empty(place))


def test_one_thing_does_not_hold_up_the_others(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nest(place, 5)
    assert trash.throw(place)
    (trash.beside(place) / "small").write_text("")
    monkeypatch.setattr(sweeper, "ROUND", -1.0)  # no time for anything that needs any
    bin_ = os.open(trash.beside(place), os.O_RDONLY)
    turns: dict[str, int] = {}
    sweeper._sweep(bin_, turns)
    os.close(bin_)
    left = [path.name for path in trash.beside(place).iterdir()]
    assert len(left) == 1 and turns == {left[0]: sweeper.ROUNDS}


def test_no_sweeper_is_started_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*words: object, **more: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", never)
    (tmp_path / ".trash").mkdir()
    trash.sweep(tmp_path / ".trash", tmp_path / "absent")


def test_a_trash_that_is_not_ours_is_not_used(place: Path) -> None:
    trash.beside(place).symlink_to(place.parent)
    with pytest.raises(TidehubError, match="cannot be moved away"):
        trash.throw(place)
    assert place.is_dir()
    place.parent.chmod(0o777)
    with pytest.raises(TidehubError, match="can be changed by others"):
        trash.throw(place)


def test_drafts_of_a_crash_go(place: Path, wait_until: WaitUntil) -> None:
    (place.parent / f"{DRAFT}abc").mkdir()
    trash.throw_drafts(place.parent)
    trash.sweep(trash.beside(place))
    wait_until(lambda: empty(place))
    assert sorted(path.name for path in place.parent.iterdir()) == [".trash", "thing"]
