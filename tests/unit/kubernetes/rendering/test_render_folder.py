"""The folder: whole or not at all, never over somebody's work, private where it has to be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tidehub.errors import TidehubError, UsageError
from tidehub.kubernetes.rendering import folder
from tidehub.kubernetes.rendering.folder import MARK, FileText, write_folder

FILES = {
    "README.md": FileText(b"# Read me\n"),
    "values/hub.yaml": FileText(b"a: 1\n"),
    "secrets/hub.secrets.yaml": FileText(b"token: x\n", private=True),
}


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def contents(path: Path) -> dict[str, bytes]:
    return {str(one.relative_to(path)): one.read_bytes() for one in sorted(path.rglob("*")) if one.is_file()}


def test_it_is_written_with_its_modes(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_folder(tmp_path / "out", FILES)
    finally:
        os.umask(before)
    out = tmp_path / "out"
    assert {name: text for name, text in contents(out).items() if name != MARK} == {
        name: file.content for name, file in FILES.items()
    }
    assert mode(out) == 0o755
    assert mode(out / "values") == 0o755
    assert mode(out / "values/hub.yaml") == 0o644
    assert mode(out / "secrets") == 0o700
    assert mode(out / "secrets/hub.secrets.yaml") == 0o600
    assert mode(out / MARK) == 0o600
    write_folder(out, {"README.md": FileText(b"nothing private")})
    assert mode(out / MARK) == 0o644


def test_private_files_are_private_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    opened = os.open

    def watched(path: str | Path, flags: int, mode: int = 0o777, **more: int) -> int:
        if str(path).endswith(".secrets.yaml"):
            seen.append(mode)
        return opened(path, flags, mode, **more)

    monkeypatch.setattr(folder.os, "open", watched)
    before = os.umask(0)
    try:
        write_folder(tmp_path / "out", FILES)
    finally:
        os.umask(before)
    assert seen == [0o600]


def test_twice_is_the_same_and_replaces(tmp_path: Path) -> None:
    out = tmp_path / "deep/out"
    write_folder(out, FILES)
    first = contents(out)
    write_folder(out, FILES)
    assert contents(out) == first
    write_folder(out, {"README.md": FileText(b"new\n")})
    assert set(contents(out)) == {"README.md", MARK}
    assert [one.name for one in out.parent.iterdir()] == ["out"]


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_folder(tmp_path / "out", FILES)
    assert (tmp_path / "out/README.md").is_file()


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (lambda out: (out / "notes.txt").write_text("mine"), "notes.txt is new"),
        (lambda out: (out / "values/mine.yaml").write_text("mine"), "values/mine.yaml is new"),
        (lambda out: (out / "secrets/hub.secrets.yaml").write_text("token: real"), "was changed"),
        (lambda out: ((out / "README.md").unlink(), (out / "README.md").symlink_to("/etc/passwd")), "was changed"),
        (lambda out: (out / "link").symlink_to("/nowhere"), "link is new"),
        (lambda out: (out / MARK).write_text("{}"), "did not write"),
        (lambda out: (out / MARK).unlink(), "did not write"),
    ],
)  # fmt: skip
def test_somebodys_work_stays(tmp_path: Path, work: object, said: str) -> None:
    out = tmp_path / "out"
    write_folder(out, FILES)
    assert callable(work)
    work(out)
    before = contents(out)
    with pytest.raises(UsageError, match=said):
        write_folder(out, {"README.md": FileText(b"new\n")})
    assert contents(out) == before


def test_a_file_that_was_removed_is_nobodys_work(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", FILES)
    (tmp_path / "out/values/hub.yaml").unlink()
    write_folder(tmp_path / "out", FILES)
    assert (tmp_path / "out/values/hub.yaml").is_file()


@pytest.mark.parametrize("make", [lambda path: path.write_text("x"), lambda path: path.symlink_to("other")])
def test_what_is_no_folder_stays(tmp_path: Path, make: object) -> None:
    assert callable(make)
    make(tmp_path / "out")
    with pytest.raises(UsageError, match="is not a folder"):
        write_folder(tmp_path / "out", FILES)
    assert os.path.lexists(tmp_path / "out")


def test_ctrl_c_half_way_leaves_everything_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    write_folder(out, FILES)
    before = contents(out)
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if Path(target) == out and self.name != "old":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_folder(out, {"README.md": FileText(b"new\n")})
    assert contents(out) == before


@pytest.mark.parametrize("existing", [False, True])
def test_a_failure_half_way_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    out = tmp_path / "out"
    if existing:
        write_folder(out, FILES)
    before = contents(out)
    rename = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if Path(target) == out and self.name != "old":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(TidehubError, match="No space left"):
        write_folder(out, {"README.md": FileText(b"new\n")})
    assert contents(out) == before
    assert [one.name for one in tmp_path.iterdir()] == (["out"] if existing else [])
