from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
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
    assert sorted(path.name for path in directory.iterdir()) == [
        "checked",
        "complete.json",
        "half-2",
        "manifest.txt",
    ]


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
    with pytest.raises(TidehubError, match="cannot be created") as caught:
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
def test_where_software_lies_for_users(
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


@pytest.fixture(params=[0o000, 0o022, 0o027, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    root = tmp_path / "srv" / "software"
    directories.build_once(root, root / "kind" / "one", Builder(), progress=Silent())
    directories.switch(root / "links" / "current", root / "kind" / "one")
    found = {
        str(path.relative_to(root.parent)): path.stat().st_mode & 0o777
        for path in [root.parent, root, *root.rglob("*")]
        if not path.is_symlink()
    }
    private = {"software/locks": 0o700, "software/locks/kind-one": 0o600}
    assert {name: found.pop(name) for name in private} == private
    for name, mode in found.items():
        assert mode == (0o755 if (root.parent / name).is_dir() else 0o644), name


def test_a_tree_made_under_a_narrow_umask_is_opened_at_the_next_start(tmp_path: Path) -> None:
    root, build = tmp_path / "software", Builder()
    made = directories.build_once(root, root / "kind" / "one", build, progress=Silent())
    (made / "bin").mkdir()
    (made / "bin" / "program").write_text("x")
    for path, mode in ((made / "bin" / "program", 0o700), (made / "bin", 0o700), (root / "kind", 0o700)):
        path.chmod(mode)
    root.chmod(0o700)
    directories.build_once(root, made, build, progress=Silent())
    assert build.calls == 1
    for path in (root, root / "kind", made, made / "bin", made / "bin" / "program"):
        assert path.stat().st_mode & 0o777 == 0o755, path


@pytest.mark.parametrize("harm", ["emptied", "cut", "removed", "replaced"])
def test_damaged_files_are_found_and_the_directory_is_made_anew(harm: str, tmp_path: Path) -> None:
    root, build, told = tmp_path / "software", Builder(), []
    made = directories.build_once(root, root / "kind" / "one", build, progress=Silent())
    file = made / "half-1"
    if harm == "removed":
        file.unlink()
    elif harm == "replaced":
        file.unlink()
        file.symlink_to("/etc/hostname")
    else:
        file.write_text("" if harm == "emptied" else "longer")
    directories.build_once(root, made, build, progress=Silent(), damaged=lambda: told.append("damaged"))
    assert (build.calls, told) == (2, ["damaged"])
    assert (made / "half-2").read_text() == "x"
    assert directories.damage(made, thoroughly=True) is None


def test_other_content_of_the_same_size_is_found_under_suspicion(tmp_path: Path) -> None:
    root, build = tmp_path / "software", Builder()
    made = directories.build_once(root, root / "kind" / "one", build, progress=Silent())
    (made / "half-1").write_text("y")
    directories.build_once(root, made, build, progress=Silent())
    assert build.calls == 1
    directories.suspect(made)
    directories.build_once(root, made, build, progress=Silent())
    assert build.calls == 2
    assert layout.checked_in(made) == layout.this_boot()


@pytest.mark.parametrize("harm", ["removed", "emptied", "emptied before this boot", "replaced"])
def test_files_below_are_looked_at_when_one_came_or_went_or_after_a_boot(harm: str, tmp_path: Path) -> None:
    root = tmp_path / "software"
    calls = []

    def build(directory: Path) -> dict[str, str]:
        calls.append(directory)
        directories.make_folder(directory / "lib" / "deep")
        (directory / "lib" / "deep" / "module.py").write_text("x = 1")
        return {}

    made = directories.build_once(root, root / "kind" / "one", build, progress=Silent())
    directories.build_once(root, made, build, progress=Silent())
    assert len(calls) == 1
    file = made / "lib" / "deep" / "module.py"
    if harm in ("removed", "replaced"):
        file.unlink()
    if harm != "removed":
        file.write_text("")
    if harm == "emptied before this boot":
        (made / layout.CHECKED).write_text(
            "another boot\n" + (made / layout.CHECKED).read_text().partition("\n")[2]
        )
    directories.build_once(root, made, build, progress=Silent())
    # Written in place in this boot: only a program that fails to start brings it under suspicion.
    assert len(calls) == (1 if harm == "emptied" else 2)


def test_a_file_that_came_costs_one_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, build = tmp_path / "software", Builder()
    made = directories.build_once(root, root / "kind" / "one", build, progress=Silent())
    looks = []
    whole = directories.damage
    monkeypatch.setattr(
        directories, "damage", lambda *one, **more: [looks.append(one), whole(*one, **more)][1]
    )
    for _ in range(2):
        directories.build_once(root, made, build, progress=Silent())
    assert looks == []
    directories.make_folder(made / "__pycache__")
    folder = made / "lib"
    directories.make_folder(folder)
    (made / layout.CHECKED).unlink()
    for _ in range(2):
        directories.build_once(root, made, build, progress=Silent())
    assert len(looks) == 1
    (folder / "later.pyc").write_text("x")
    for _ in range(2):
        directories.build_once(root, made, build, progress=Silent())
    assert (len(looks), build.calls) == (2, 1)


@pytest.mark.parametrize("harm", ["", "0 0"], ids=["empty", "cut"])
def test_a_damaged_manifest_counts_as_damage(harm: str, tmp_path: Path) -> None:
    root, build = tmp_path / "software", Builder()
    made = directories.build_once(root, root / "kind" / "one", build, progress=Silent())
    (made / layout.MANIFEST).write_text(harm)
    directories.build_once(root, made, build, progress=Silent())
    assert build.calls == 2


@pytest.mark.parametrize("emptied", [False, True], ids=["whole", "emptied"])
def test_what_an_older_version_completed_is_listed_if_its_records_agree(
    emptied: bool, tmp_path: Path
) -> None:
    root, build = tmp_path / "software", Builder()
    made = directories.build_once(root, root / "kind" / "one", build, progress=Silent())
    site = made / "lib" / "python3.11" / "site-packages"
    (site / "thing-1.dist-info").mkdir(parents=True)
    (site / "thing.py").write_text("" if emptied else "x = 1")
    (site / "thing-1.dist-info" / "RECORD").write_text(
        "thing.py,sha256=x,5\nleft/out.py,,7\nthing-1/RECORD,,\n"
    )
    (made / layout.MANIFEST).unlink()
    directories.build_once(root, made, build, progress=Silent())
    assert build.calls == (2 if emptied else 1)
    assert directories.damage(made, thoroughly=True) is None


def test_all_is_on_the_disk_before_the_marker_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    sync = directories.sync

    def watched(directory: Path) -> None:
        seen.append(sorted(path.name for path in directory.iterdir()))
        sync(directory)

    monkeypatch.setattr(directories, "sync", watched)
    directories.build_once(tmp_path, tmp_path / "kind" / "one", Builder(), progress=Silent())
    assert seen == [["checked", "half-1", "manifest.txt"]]


def test_a_disk_that_does_not_take_it_leaves_no_marker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(directory: Path) -> None:
        raise OSError(errno.EIO, "Input/output error", str(directory))

    monkeypatch.setattr(directories, "sync", failing)
    with pytest.raises(TidehubError, match="Input/output error"):
        directories.build_once(tmp_path, tmp_path / "kind" / "one", Builder(), progress=Silent())
    assert not layout.is_complete(tmp_path / "kind" / "one")
