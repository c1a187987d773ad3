from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from tidehub.errors import TidehubError
from tidehub.local.software import directories, layout
from tidehub.local.software.progress import Silent


class Builder:
    """Builds a directory with one file; fails the first `failures` times, after having begun."""

    def __init__(self, failures: int = 0, error: Exception | None = None) -> None:
        self.calls = 0
        self._failures = failures
        self._error = error or RuntimeError("interrupted")

    def __call__(self, directory: Path) -> Mapping[str, str]:
        self.calls += 1
        directory.mkdir()
        (directory / f"half-{self.calls}").write_text("x")
        if self.calls <= self._failures:
            raise self._error
        return {"call": str(self.calls)}


def test_what_is_complete_is_not_built_again(tmp_path: Path) -> None:
    build = Builder()
    for _ in range(3):
        made = directories.build_once(tmp_path, tmp_path / "kind" / "one", build, progress=Silent())
    assert build.calls == 1
    assert directories.facts(made) == {"call": "1"}


def test_an_interrupted_build_is_never_used_and_its_remains_go(tmp_path: Path) -> None:
    build, directory = Builder(failures=1), tmp_path / "kind" / "one"
    with pytest.raises(RuntimeError):
        directories.build_once(tmp_path, directory, build, progress=Silent())
    assert not layout.is_complete(directory)
    directories.build_once(tmp_path, directory, build, progress=Silent())
    assert layout.is_complete(directory)
    assert sorted(path.name for path in directory.iterdir()) == ["complete.json", "half-2"]


def test_what_became_unusable_is_built_again(tmp_path: Path) -> None:
    build, directory = Builder(), tmp_path / "kind" / "one"
    directories.build_once(tmp_path, directory, build, progress=Silent())
    used = lambda place: (place / "half-2").exists()  # noqa: E731
    directories.build_once(tmp_path, directory, build, progress=Silent(), usable=used)
    assert build.calls == 2


def test_a_full_disk_is_said_with_the_remedy(tmp_path: Path) -> None:
    build = Builder(failures=1, error=OSError(errno.ENOSPC, "No space left on device", "f"))
    with pytest.raises(TidehubError) as caught:
        directories.build_once(tmp_path, tmp_path / "kind" / "one", build, progress=Silent())
    assert "is full" in str(caught.value)
    assert "TIDEHUB_SOFTWARE" in str(caught.value)


def test_two_processes_build_once(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import sys
        from pathlib import Path
        from tidehub.local.software import directories
        from tidehub.local.software.progress import Silent
        root = Path(sys.argv[1])
        def build(directory):
            directory.mkdir()
            with (root / "builds").open("a") as log:
                log.write("built ")
            return {}
        print("ready", flush=True)
        sys.stdin.readline()
        directories.build_once(root, root / "kind" / "one", build, progress=Silent())
    """)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for child in children:
        assert child.stdout and child.stdout.readline() == "ready\n"
    for child in children:
        child.communicate("go\n", timeout=30)
    assert [child.returncode for child in children] == [0, 0, 0, 0]
    assert (tmp_path / "builds").read_text() == "built "


def test_a_root_that_others_could_change_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "shared"
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(TidehubError, match="can be changed by other users"):
        directories.prepare_root(root)


def test_a_root_that_cannot_be_made_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TidehubError, match="cannot be made") as caught:
        directories.prepare_root(tmp_path / "file" / "software")
    assert "TIDEHUB_SOFTWARE" in str(caught.value)


def test_a_link_is_switched_and_never_missing(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "versions" / name).mkdir(parents=True)
        directories.switch(tmp_path / "links" / "current", tmp_path / "versions" / name)
        assert (tmp_path / "links" / "current").resolve().name == name
    assert not (tmp_path / "links" / "current").readlink().is_absolute()
    assert [path.name for path in (tmp_path / "links").iterdir()] == ["current"]


def test_everybody_may_read_and_nobody_else_may_write(tmp_path: Path) -> None:
    program, data, folder = tmp_path / "program", tmp_path / "data", tmp_path / "folder"
    for path, mode in ((program, 0o700), (data, 0o666)):
        path.write_text("x")
        path.chmod(mode)
    folder.mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("/nowhere")
    directories.make_readable(tmp_path)
    assert [path.stat().st_mode & 0o777 for path in (program, data, folder)] == [0o755, 0o644, 0o755]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TIDEHUB_SOFTWARE": "/srv/software"}, "/srv/software"),
        ({"XDG_DATA_HOME": "/data"}, "/data/tidehub"),
        ({"XDG_DATA_HOME": "relative"}, "HOME/.local/share/tidehub"),
        ({}, "HOME/.local/share/tidehub"),
    ],
)
def test_where_software_lies_for_people(
    environ: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/ann")
    assert str(layout.default_root(environ)) == expected.replace("HOME", "/home/ann")


def test_where_software_lies_for_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert str(layout.default_root({"XDG_DATA_HOME": "/data"})) == "/opt/tidehub"


def test_the_digest_keeps_parts_apart() -> None:
    assert layout.digest(b"ab", b"c") != layout.digest(b"a", b"bc")
    assert len(layout.digest(b"")) == 12


def test_a_user_without_a_home_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 4321)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: (_ for _ in ()).throw(KeyError(uid)))
    monkeypatch.setattr("os.getuid", lambda: 4321)
    with pytest.raises(TidehubError, match="no home directory"):
        layout.default_root({})
