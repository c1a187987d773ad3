"""Homes in a backup: everything that a file is comes back, and nothing lands elsewhere."""

from __future__ import annotations

import io
import os
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidehub.backup import trees
from tidehub.backup.container import BackupReader, BackupWriter
from tidehub.errors import TidehubError


def through(root: Path, place: Path, warnings: list[str] | None = None) -> Path:
    """`root` packed into a backup and unpacked again."""
    said: list[str] = [] if warnings is None else warnings
    with BackupWriter(place / "b.tar.gz") as writer:
        writer.start({"target": "machine"}, {})
        writer.tree("home", root, said.append)
    into = place / "into"
    into.mkdir()
    trees.unpack(BackupReader(place / "b.tar.gz").tree_members(), into, owners=os.geteuid() == 0)
    return into / "home"


def test_kinds_modes_times_and_links_come_back(tmp_path: Path) -> None:
    root = tmp_path / "ana"
    (root / "data").mkdir(parents=True)
    (root / "data" / "a.nc").write_bytes(bytes(range(256)) * 5000)
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "empty").mkdir(mode=0o500)
    (root / "again.nc").hardlink_to(root / "data" / "a.nc")
    (root / "link").symlink_to("/etc/passwd")
    os.utime(root / "run.sh", (1_600_000_000, 1_600_000_000.25))
    back = through(root, tmp_path)
    assert (back / "data" / "a.nc").read_bytes() == bytes(range(256)) * 5000
    assert (back / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (back / "run.sh").stat().st_mtime == 1_600_000_000.25
    assert (back / "empty").stat().st_mode & 0o777 == 0o500
    assert (back / "again.nc").stat().st_ino == (back / "data" / "a.nc").stat().st_ino
    assert (back / "link").readlink() == Path("/etc/passwd")


def test_extended_attributes_come_back(tmp_path: Path) -> None:
    root = tmp_path / "ana"
    root.mkdir()
    (root / "f").write_text("x")
    try:
        os.setxattr(root / "f", "user.origin", b"buoy \xff 7")
    except OSError:
        pytest.skip("the file system of the temporary directory keeps no extended attributes")
    assert os.getxattr(through(root, tmp_path) / "f", "user.origin") == b"buoy \xff 7"


def test_sockets_and_pipes_are_left_out(tmp_path: Path) -> None:
    root = tmp_path / "ana"
    root.mkdir()
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "s"))
        assert list(through(root, tmp_path).iterdir()) == []


def test_a_file_that_shrinks_is_said_and_the_rest_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "ana"
    root.mkdir()
    (root / "a.log").write_bytes(b"x" * 100_000)
    (root / "b").write_text("after")
    real = os.fdopen

    def shrinking(descriptor: int, mode: str) -> object:
        if os.fstat(descriptor).st_size == 100_000:
            os.truncate(root / "a.log", 10)
        return real(descriptor, mode)

    monkeypatch.setattr(os, "fdopen", shrinking)
    said: list[str] = []
    back = through(root, tmp_path, said)
    assert (back / "a.log").read_bytes() == b"x" * 10 + bytes(99_990)
    assert (back / "b").read_text() == "after"
    assert said == [f"{root}/a.log became shorter while it was copied"]


def test_what_goes_away_is_said(tmp_path: Path) -> None:
    root = tmp_path / "ana"
    (root / "d").mkdir(parents=True)
    (root / "d" / "f").write_text("x")
    said: list[str] = []
    found = []
    for member, _ in trees.pack(root, "home", said.append):
        found.append(member.name)
        if member.name == "home/d":
            (root / "d" / "f").unlink()
    assert found == ["home", "home/d"]
    assert said == [f"{root}/d/f was left out: No such file or directory"]


def test_a_link_in_a_directorys_place_leads_nowhere(tmp_path: Path) -> None:
    """Somebody swaps a directory of theirs for a link to others' files while the backup is made."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "secret").write_text("of somebody else")
    root = tmp_path / "ana"
    (root / "d").mkdir(parents=True)
    found = []
    for member, _ in trees.pack(root, "home", lambda said: None):
        found.append((member.name, member.type))
        if member.name == "home":
            (root / "d").rmdir()
            (root / "d").symlink_to(other)
    assert found == [("home", tarfile.DIRTYPE), ("home/d", tarfile.SYMTYPE)]


def test_no_recursion_error_for_the_deepest_tree(tmp_path: Path) -> None:
    root = tmp_path / "ana"
    root.mkdir()
    here = os.open(root, os.O_RDONLY)
    for _ in range(trees.DEEPEST + 40):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    said: list[str] = []
    assert len(list(trees.pack(root, "home", said.append))) == trees.DEEPEST + 1
    assert len(said) == 1 and said[0].endswith(f"more than {trees.DEEPEST} directories deep")


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> trees.Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, io.BytesIO(b"") if kind == tarfile.REGTYPE else None


@pytest.mark.parametrize(
    "members",
    [
        [member("../out")],
        [member("/etc/out")],
        [member("d/../../out")],
        [member("not-made/out")],
        [member("d", tarfile.SYMTYPE, "/tmp"), member("d/out")],
        [member("d", tarfile.LNKTYPE, "../../etc/passwd")],
        [member("d", tarfile.LNKTYPE, "/etc/passwd")],
        [member("d", tarfile.CHRTYPE)],
        [member("d", tarfile.FIFOTYPE)],
    ],
)
def test_nothing_lands_outside(tmp_path: Path, members: list[trees.Member]) -> None:
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(TidehubError, match="the backup"):
        trees.unpack(members, into, owners=False)
    assert not (tmp_path / "out").exists()


NAMES = st.binary(min_size=1, max_size=40).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(NAMES, st.binary(max_size=300), max_size=6))
def test_any_name_and_content_comes_back(
    tmp_path_factory: pytest.TempPathFactory, files: dict[bytes, bytes]
) -> None:
    place = tmp_path_factory.mktemp("any")
    root = place / "home"
    root.mkdir()
    for name, content in files.items():
        (root / os.fsdecode(name)).write_bytes(content)
    back = through(root, place)
    assert {os.fsencode(path.name): path.read_bytes() for path in _all(back)} == files


def _all(root: Path) -> Iterator[Path]:
    return root.iterdir()
