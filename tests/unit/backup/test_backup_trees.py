"""Homes in a backup: everything that a file is comes back, and nothing lands elsewhere."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidehub.backup import trees, unpacking
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
    unpacking.unpack(BackupReader(place / "b.tar.gz").tree_members(), into, owners=os.geteuid() == 0)
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
    real = os.pread

    def shrinking(descriptor: int, length: int, offset: int) -> bytes:
        if os.fstat(descriptor).st_size == 100_000:
            os.truncate(root / "a.log", 10)
        return real(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", shrinking)
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


@contextlib.contextmanager
def deep(root: Path, levels: int) -> Iterator[int]:
    """`levels` directories `d` within each other, and the deepest one's descriptor. Removed in the end."""
    root.mkdir()
    here = os.open(root, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    try:
        yield here
    finally:
        os.close(here)
        unpacking.remove_tree(root)  # pytest's own clean-up recurses


def write_at(directory: int, name: str, text: str) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=directory)
    os.write(descriptor, text.encode())
    os.close(descriptor)


def test_a_deep_tree_comes_back(tmp_path: Path) -> None:
    with deep(tmp_path / "ana", 3000) as bottom:
        write_at(bottom, "thesis", "at the bottom")
        os.mkdir("z", dir_fd=bottom)
        (tmp_path / "ana" / "d" / "e").mkdir()
        said: list[str] = []
        back = through(tmp_path / "ana", tmp_path, said)
    assert said == []
    assert (back / "d" / "e").is_dir()
    here = os.open(back, os.O_RDONLY)
    for _ in range(3000):
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    assert sorted(os.listdir(here)) == ["thesis", "z"]  # noqa: PTH208  (of a descriptor)
    os.close(here)
    unpacking.remove_tree(tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_what_is_deeper_than_any_work_is_said(tmp_path: Path) -> None:
    with deep(tmp_path / "ana", trees.DEEPEST + 40):
        said: list[str] = []
        assert len(list(trees.pack(tmp_path / "ana", "home", said.append))) == trees.DEEPEST + 1
    assert len(said) == 1 and f"more than {trees.DEEPEST} directories deep" in said[0]


def test_who_moves_a_deep_directory_while_it_is_copied_leads_nowhere(tmp_path: Path) -> None:
    """On the way up `..` is another directory then: nothing of it is copied, and the loss is said."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "secret").write_text("of somebody else")
    levels = trees.KEPT_OPEN + 10
    with deep(tmp_path / "ana", levels) as bottom:
        write_at(bottom, "f", "x")
        parent = os.open("..", os.O_RDONLY, dir_fd=bottom)
        write_at(parent, "z", "after")
        said: list[str] = []
        found = []
        for member, _ in trees.pack(tmp_path / "ana", "home", said.append):
            found.append(member.name.rpartition("/")[2])
            if found[-1] == "f":
                os.rename("d", tmp_path / "other" / "moved", src_dir_fd=parent)
        os.close(parent)
        assert found == ["home", *["d"] * levels, "f"]
        assert len(said) == 1 and said[0].endswith("it was moved while it was copied")


def test_holes_stay_holes_and_cost_nothing(tmp_path: Path) -> None:
    root = tmp_path / "ana"
    root.mkdir()
    tebibyte = 2**40
    with (root / "image").open("wb") as file:
        file.write(b"begin" * 1000)
        for at in (3 * tebibyte, 6 * tebibyte + 123):
            file.seek(at)
            file.write(b"middle" * 1000)
        file.truncate(10 * tebibyte)
    with (root / "only-a-hole").open("wb") as file:
        file.truncate(tebibyte)
    began = time.process_time()
    back = through(root, tmp_path)
    assert time.process_time() - began < 10
    assert (tmp_path / "b.tar.gz").stat().st_size < 100_000
    assert (back / "only-a-hole").stat().st_size == tebibyte
    assert (back / "image").stat().st_size == 10 * tebibyte
    assert (back / "image").stat().st_blocks * 512 < 2**20
    with (back / "image").open("rb") as file:
        assert file.read(5001) == b"begin" * 1000 + b"\0"
        for at in (3 * tebibyte, 6 * tebibyte + 123):
            file.seek(at - 1)
            assert file.read(6002) == b"\0" + b"middle" * 1000 + b"\0"


def test_any_tar_reads_a_file_with_holes(tmp_path: Path) -> None:
    root = tmp_path / "ana"
    root.mkdir()
    with (root / "image").open("wb") as file:
        file.write(b"a" * 5000)
        file.seek(2**20)
        file.write(b"b" * 5000)
        file.truncate(2**21)
    (root / "next").write_text("after")
    through(root, tmp_path)
    (tmp_path / "by-tar").mkdir()
    subprocess.run(["tar", "xzf", tmp_path / "b.tar.gz", "-C", tmp_path / "by-tar"], check=True)
    for name in ("image", "next"):
        assert (tmp_path / "by-tar" / "trees" / "home" / name).read_bytes() == (root / name).read_bytes()


def test_more_data_than_a_tar_header_can_say(tmp_path: Path) -> None:
    """Above 8 GiB the size lies in a pax header of its own, and the next member must still be found."""
    info = tarfile.TarInfo("home/image")
    segments = [(0, 2**33), (2**40, 512)]
    info.size = 2**33 + 512
    info.pax_headers = trees._sparse_headers(segments, 2**41)
    header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")

    class Zeros(io.RawIOBase):
        """The archive, without 8 GiB on the disk."""

        def __init__(self) -> None:
            after = tarfile.TarInfo("home/next").tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
            self.parts, self.at = {0: header, len(header) + info.size: after + bytes(1024)}, 0

        def read(self, size: int = -1) -> bytes:
            for start, part in self.parts.items():
                if start <= self.at < start + len(part):
                    data = part[self.at - start :][:size]
                    break
            else:
                data = bytes(max(0, min(size, len(header) + info.size - self.at)))
            self.at += len(data)
            return data

        def seek(self, to: int, whence: int = 0) -> int:
            self.at = to
            return to

        def tell(self) -> int:
            return self.at

    with tarfile.TarFile(fileobj=Zeros()) as tar:  # type: ignore[arg-type]
        assert [member.name for member in tar] == ["home/image", "home/next"]


def test_a_map_of_holes_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    for text in ("0,3,2,4", "0,5", "9,x", "-1,3", "100,3"):
        bad, content = member("f")
        bad.size = 3
        bad.pax_headers = {trees.SPARSE_MAP: text, trees.SPARSE_SIZE: "10"}
        with pytest.raises(TidehubError, match="makes no sense"):
            unpacking.unpack([(bad, content)], tmp_path, owners=False)
        (tmp_path / "f").unlink()


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
        unpacking.unpack(members, into, owners=False)
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
