from __future__ import annotations

import errno
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from tidehub.errors import TidehubError
from tidehub.system import files
from tidehub.system.files import read_private, write_private


def test_a_file_is_replaced_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert read_private(path) == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["secret"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    write_private(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(TidehubError, match="the disk is full"):
        write_private(path, "new")
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["secret"]


def test_a_missing_directory_is_a_fault_in_words(tmp_path: Path) -> None:
    with pytest.raises(TidehubError, match="cannot write"):
        write_private(tmp_path / "none" / "secret", "x")


def test_reading_nothing_and_reading_nonsense(tmp_path: Path) -> None:
    assert read_private(tmp_path / "none") is None
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(TidehubError, match="damaged"):
        read_private(tmp_path / "bytes")


class TestFullDisk:
    def test_a_write_of_sqlite_and_what_wraps_it(self, tmp_path: Path) -> None:
        with closing(sqlite3.connect(tmp_path / "x.sqlite")) as database:
            database.execute("PRAGMA max_page_count = 2")
            with pytest.raises(sqlite3.OperationalError) as full:
                database.execute("CREATE TABLE t AS SELECT zeroblob(100000) AS b")
        assert files.is_full_disk(full.value)
        wrapped = RuntimeError("sqlalchemy")
        wrapped.orig = full.value  # type: ignore[attr-defined]
        assert files.is_full_disk(wrapped)

    def test_the_reason_of_a_reason_and_of_itself(self) -> None:
        try:
            try:
                raise OSError(errno.EDQUOT, "Disk quota exceeded")
            except OSError as error:
                raise ValueError("cannot sign in") from error
        except ValueError as error:
            found = error
        assert files.is_full_disk(found)
        loop = ValueError("loop")
        loop.__cause__ = loop
        assert not files.is_full_disk(loop)

    def test_other_faults_are_not(self) -> None:
        assert not files.is_full_disk(None)
        assert not files.is_full_disk(OSError(errno.EACCES, "no"))
        assert not files.is_full_disk(sqlite3.OperationalError("database is locked"))
