"""tidehub installed on top of a locked environment: a real interpreter, a small package."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tidehub.errors import TidehubError
from tidehub.local.software import directories, own

SITE = Path(f"lib/python3.{sys.version_info.minor}/site-packages")
ASK = "import parcel, helper, importlib.metadata as m; print(parcel.x, parcel.__file__, m.version('parcel'))"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    package = tmp_path / "checkout" / "src" / "parcel"
    (package / "data").mkdir(parents=True)
    (package / "__pycache__").mkdir()
    (package / "__init__.py").write_text('x = 1\n__version__ = "1.2"\n')
    (package / "part.py").write_text("y = 1\n")
    (package / "data" / "page.html").write_text("<p>")
    (package / "__pycache__" / "old.pyc").write_text("")
    (package / "__init__.py").chmod(0o600)
    return package


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """A virtual environment that holds one module, as the locked packages are."""
    directory = tmp_path / "software" / "control" / "abc-py311"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(directory)], check=True)
    (directory / SITE / "helper.py").write_text("")
    return directory


@pytest.fixture(params=[0o022, 0o027, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> object:
    before = os.umask(request.param)
    yield
    os.umask(before)


def ask(python: Path, *words: str) -> list[str]:
    done = subprocess.run(
        [str(python), *(words or ("-I", "-c", ASK))], cwd="/", env={}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_it_is_a_package_beside_its_dependencies(package: Path, locked: Path, tmp_path: Path) -> None:
    python = own.installed(tmp_path / "software", package, locked)
    place = python.parent.parent / SITE / "parcel"
    assert ask(python) == ["1", str(place / "__init__.py"), "1.2"]
    held = sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())
    assert [name for name in held if "__pycache__" not in name] == [
        "__init__.py",
        "data/page.html",
        "part.py",
    ]
    assert len(held) == 5


@pytest.mark.usefixtures("umask")
def test_everybody_can_read_it_whatever_the_umask(package: Path, locked: Path, tmp_path: Path) -> None:
    python = own.installed(tmp_path / "software", package, locked)
    for path in [python.parent.parent, *python.parent.parent.rglob("*")]:
        if not path.is_symlink():
            wanted = 0o755 if path.is_dir() or path.parent.name == "bin" else 0o644
            assert path.stat().st_mode & 0o777 == wanted, path


def test_a_changed_package_is_another_directory_and_the_old_one_stays(
    package: Path, locked: Path, tmp_path: Path
) -> None:
    first = own.installed(tmp_path / "software", package, locked)
    assert own.installed(tmp_path / "software", package, locked) == first
    (package / "__init__.py").write_text('x = 2\n__version__ = "1.3"\n')
    second = own.installed(tmp_path / "software", package, locked)
    assert (ask(first)[0], ask(second)[0]) == ("1", "2")
    # What has not changed is neither written nor compiled again.
    parts = [python.parent.parent / SITE / "parcel" / "part.py" for python in (first, second)]
    assert parts[0].samefile(parts[1])


def test_a_change_is_picked_up_within_milliseconds(tmp_path: Path, locked: Path) -> None:
    package = own.PACKAGE
    own.installed(tmp_path / "software", package, locked)
    copy = tmp_path / "tidehub"
    subprocess.run(["cp", "-r", str(package), str(copy)], check=True)
    with (copy / "cli" / "main.py").open("a") as stream:
        stream.write("# changed\n")
    began = time.process_time()
    own.installed(tmp_path / "software", copy, locked)
    assert time.process_time() - began < 0.5


def test_damaged_files_are_installed_again(package: Path, locked: Path, tmp_path: Path) -> None:
    python = own.installed(tmp_path / "software", package, locked)
    (python.parent.parent / SITE / "parcel" / "__init__.py").write_text("")
    again = own.installed(tmp_path / "software", package, locked)
    assert again == python
    assert ask(python)[0] == "1"


def test_old_versions_go_but_not_those_that_run(
    package: Path, locked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "_KEPT", 0)
    root = tmp_path / "software"
    pythons = []
    for number in range(3):
        (package / "part.py").write_text(f"y = {number}\n")
        pythons.append(own.installed(root, package, locked))
    # This process holds all three: as after the exec of ./tidehub.
    assert all(python.exists() for python in pythons)
    for entry in list(Path("/proc/self/fd").iterdir()):
        target = os.path.realpath(entry)
        if target.startswith(str(root / "locks" / "in-use-")) and pythons[1].parent.parent.name not in target:
            fcntl.flock(int(entry.name), fcntl.LOCK_UN)
    (package / "part.py").write_text("y = 3\n")
    pythons.append(own.installed(root, package, locked))
    assert [python.exists() for python in pythons] == [False, True, False, True]


def test_a_root_of_somebody_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr("os.geteuid", lambda: 4321)
    assert own.root_for(Path("/usr")) == tmp_path / "data" / "tidehub"
    assert own.root_for(tmp_path / "new") == tmp_path / "new"


def test_modules_that_cannot_be_imported_put_the_environment_under_suspicion(
    package: Path, locked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = own.installed(tmp_path / "software", package, locked)
    directories.complete(locked, {})
    monkeypatch.setattr(sys, "prefix", str(python.parent.parent))
    said = str(own.damaged(ImportError("cannot import name 'x'")))
    assert "cannot import name 'x'" in said
    assert "run ./tidehub again" in said
    assert not (locked / directories.CHECKED).exists()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert "install tidehub again" in str(own.damaged(SyntaxError("null bytes")))


def test_a_python_without_tidehub_is_refused(locked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(locked / "bin" / "python"))
    with pytest.raises(TidehubError, match="No module named 'tidehub'"):
        own.check_startable(None, locked.parent.parent)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has other users' uids")
def test_a_place_that_services_cannot_read_is_an_error_with_the_remedy(
    locked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "software"
    python = own.installed(root, own.PACKAGE, locked)
    monkeypatch.setattr(sys, "executable", str(python))
    directories.switch(root / "profiles" / "default", locked)
    for place in [tmp_path, *tmp_path.parents]:
        if not place.stat().st_mode & 0o001:
            place.chmod(0o755)  # pytest's own directories
    own.check_startable(65534, root)
    root.chmod(0o700)
    with pytest.raises(TidehubError) as caught:
        own.check_startable(65534, root)
    assert f"{root} is closed to other users" in str(caught.value)
    assert f"open the way with: chmod go+rx {root};" in str(caught.value)
