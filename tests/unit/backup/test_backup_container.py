"""The file of a backup: what goes in comes out, and what is not whole is refused."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from tidehub.backup.container import BackupReader, BackupWriter, Kept
from tidehub.errors import TidehubError

FILES = {
    "state/private/secrets.json": Kept(b'{"a": 1}', 0o600, 0, 0),
    "site/tidehub.yaml": Kept(b"site:\n", 0o644),
}


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    home = tmp_path / "ana"
    home.mkdir()
    (home / "notes.txt").write_text("tides\n" * 5000)
    path = tmp_path / "b.tar.gz"
    with BackupWriter(path) as writer:
        writer.start({"target": "machine", "people": ["ana"]}, FILES)
        writer.tree("homes/ana", home, pytest.fail)
    return path


def test_what_went_in_comes_out(backup: Path) -> None:
    reader = BackupReader(backup)
    reader.check()
    assert reader.target == "machine" and reader.manifest["people"] == ["ana"]
    assert reader.files() == FILES
    names = [member.name for member, _ in reader.tree_members()]
    assert names == ["homes/ana", "homes/ana/notes.txt"]


def test_only_the_owner_may_read_it(backup: Path) -> None:
    assert backup.stat().st_mode & 0o777 == 0o600


def test_no_secret_is_in_the_manifest(backup: Path) -> None:
    assert '"a"' not in json.dumps(BackupReader(backup).manifest)


def test_a_backup_is_never_overwritten(backup: Path) -> None:
    before = backup.read_bytes()
    with pytest.raises(TidehubError, match="is there already"):
        BackupWriter(backup)
    assert backup.read_bytes() == before


def test_a_failed_backup_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), BackupWriter(tmp_path / "b.tar.gz") as writer:
        writer.start({"target": "machine"}, FILES)
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tenth", range(10))
def test_a_file_that_is_cut_short_is_refused(backup: Path, tmp_path: Path, tenth: int) -> None:
    whole = backup.read_bytes()
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(whole[: len(whole) * tenth // 10])
    with pytest.raises(TidehubError, match="cannot be restored"):
        BackupReader(cut).check()


def _again(backup: Path, path: Path, change: str, content: bytes) -> Path:
    """The same backup with one member's content replaced, as a valid archive."""
    with tarfile.open(backup) as old, tarfile.open(path, "w:gz") as new:
        for member in old:
            data = old.extractfile(member)
            raw = data.read() if data else b""
            if member.name == change:
                raw, member.size = content, len(content)
            new.addfile(member, io.BytesIO(raw) if member.isreg() else None)
    return path


def test_a_changed_file_is_refused_by_name(backup: Path, tmp_path: Path) -> None:
    changed = _again(backup, tmp_path / "c.tar.gz", "files/site/tidehub.yaml", b"other\n")
    with pytest.raises(TidehubError, match=r"site/tidehub\.yaml in it was changed"):
        BackupReader(changed).check()
    with pytest.raises(TidehubError, match="was changed"):
        BackupReader(changed).files()


def test_a_missing_member_of_a_tree_is_noticed(backup: Path, tmp_path: Path) -> None:
    with tarfile.open(backup) as old, tarfile.open(tmp_path / "c.tar.gz", "w:gz") as new:
        for member in old:
            if not member.name.endswith("notes.txt"):
                new.addfile(member, old.extractfile(member) if member.isreg() else None)
    with pytest.raises(TidehubError, match="cut short"):
        BackupReader(tmp_path / "c.tar.gz").check()


def test_a_newer_format_names_the_tidehub_that_made_it(backup: Path, tmp_path: Path) -> None:
    manifest = json.dumps({**BackupReader(backup).manifest, "format": 2, "tidehub": "9.1"}).encode()
    with pytest.raises(TidehubError, match=r"format 2, made by tidehub 9\.1"):
        BackupReader(_again(backup, tmp_path / "c.tar.gz", "manifest.json", manifest))


@pytest.mark.parametrize("content", [b"", b"text", gzip.compress(b"text"), gzip.compress(bytes(20480))])
def test_another_file_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(content)
    with pytest.raises(TidehubError, match="cannot be restored"):
        BackupReader(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TidehubError, match="cannot be read: No such file"):
        BackupReader(tmp_path / "none")
