from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
from pathlib import Path

import pytest

from tidehub.errors import TidehubError
from tidehub.secrets import private_file


def test_the_repr_holds_no_content(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("open-sesame")
    path.chmod(0o600)
    content = private_file.read(path, "the file")
    assert content is not None
    assert content.data == b"open-sesame"
    assert "sesame" not in repr(content)


def test_replaced_whole_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "f"
    private_file.replace(path, "one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    private_file.replace(path, b"two", mode=0o644)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("two", 0o644)
    assert [one.name for one in tmp_path.iterdir()] == ["f"]


def test_a_directory_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(TidehubError, match="cannot write"):
        private_file.replace(tmp_path / "no" / "f", "x")
    with pytest.raises(TidehubError, match="cannot open"), private_file.alone(tmp_path / "no"):
        pass


@pytest.mark.root
def test_roots_new_file_belongs_to_whom_the_directory_belongs(tmp_path: Path) -> None:
    os.chown(tmp_path, 61234, 61234)
    private_file.replace(tmp_path / "f", "x")
    found = (tmp_path / "f").stat()
    assert (found.st_uid, found.st_gid) == (61234, 61234)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    inside, release, order = threading.Event(), threading.Event(), []

    def first() -> None:
        with private_file.alone(tmp_path):
            inside.set()
            release.wait(30)
            order.append("first")

    def second() -> None:
        with private_file.alone(tmp_path):
            order.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(30)
    threads[1].start()
    release.set()
    for thread in threads:
        thread.join(30)
    assert order == ["first", "second"]
    assert list(tmp_path.iterdir()) == []


def test_where_directories_cannot_be_locked_a_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock

    def as_on_nfs(handle: int, operation: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EBADF, "Bad file descriptor")
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", as_on_nfs)
    with private_file.alone(tmp_path):
        (lock,) = tmp_path.iterdir()
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    monkeypatch.setattr(
        fcntl, "flock", lambda handle, operation: (_ for _ in ()).throw(OSError(errno.EIO, "I/O"))
    )
    with pytest.raises(TidehubError, match="cannot lock"), private_file.alone(tmp_path):
        pass
