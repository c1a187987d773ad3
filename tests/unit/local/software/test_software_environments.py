"""Software with a stand-in for uv: which commands are given, what is kept, what is refused."""

from __future__ import annotations

import json
import os
import stat
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from tidehub.errors import TidehubError, UsageError
from tidehub.local.software import Software, installer, software
from tidehub.local.software.progress import Silent
from tidehub.local.software.software import SERVES_NOTEBOOKS
from tidehub.release_sets import Release

PINS = "".join(f"{name}==1.0 \\\n    --hash=sha256:{'0' * 64}\n" for name in SERVES_NOTEBOOKS)
FAKE_UV = """\
    #!{python}
    import json, os, pathlib, re, sys
    log = pathlib.Path(__file__).with_name("calls")
    with log.open("a") as calls:
        calls.write(json.dumps(sys.argv[1:]) + "\\n")
    words = sys.argv[1:]
    if words[0] == "venv":
        target = pathlib.Path([word for word in words if word.startswith("/")][-1])
        (target / "bin").mkdir(parents=True)
        (target / "bin" / "python").symlink_to(sys.executable)
        (target / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    elif words[1] == "sync":
        lock = pathlib.Path([word for word in words if word.startswith("/")][-1])
        if "BROKEN" in os.environ:
            sys.exit("error: No space left on device (os error 28)")
        site = pathlib.Path(words[words.index("--python") + 1]).parent.parent / "lib/python3.11/site-packages"
        for name, version in re.findall(r"^([\\w-]+)==([\\w.]+)", lock.read_text(), re.M):
            info = site / f"{{name}}-{{version}}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Name: {{name}}\\nVersion: {{version}}\\n")
    elif words[1] == "compile":
        output = pathlib.Path(words[words.index("--output-file") + 1])
        asked = pathlib.Path(words[-2])  # --no-python-downloads is last
        output.write_text(output.read_text() + "".join(f"{{line}}==2.0\\n" for line in asked.read_text().split()))
"""


@dataclass(frozen=True)
class Profile:
    slug: str = "plain"
    packages: tuple[str, ...] = ()
    lock: Path | None = None


class Place:
    """A software root with a stand-in uv and a small release set."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        uv = base / "bin" / "uv"
        uv.parent.mkdir()
        uv.write_text(textwrap.dedent(FAKE_UV).format(python=sys.executable))
        uv.chmod(0o755)
        self._calls = base / "bin" / "calls"
        release = base / "release"
        release.mkdir()
        (release / "notebook.txt").write_text(PINS)
        (release / "notebook.in").write_text("\n".join(SERVES_NOTEBOOKS))
        (release / "control.txt").write_text("jupyterhub==1.0 \\\n    --hash=sha256:1\n")
        self.release = Release("test", release)
        monkeypatch.setattr(installer, "find", lambda root, progress: installer.Installer(uv, root, progress))
        monkeypatch.setenv("TIDEHUB_PYTHON", sys.executable if os.geteuid() else "/usr/bin/python3")
        self.software = Software(base / "software", progress=Silent(), release=self.release)

    def calls(self) -> list[list[str]]:
        return (
            [json.loads(line) for line in self._calls.read_text().splitlines()]
            if self._calls.exists()
            else []
        )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def test_the_default_environment_is_made_once_with_hashes_and_bytecode(place: Place) -> None:
    made = place.software.environment()
    _venv, sync = place.calls()
    assert {"--require-hashes", "--no-build", "--compile-bytecode", "--no-python-downloads"} <= set(sync)
    assert made.python.is_file()
    assert made.root == place.software.root / "environments" / made.version
    assert (made.root / "lock.txt").read_text() == PINS
    assert place.software.environment() == made
    assert len(place.calls()) == 2


def test_profiles_without_wishes_share_the_default(place: Place) -> None:
    assert place.software.environment(Profile("main")) == place.software.environment()
    links = place.software.root / "profiles"
    assert (links / "main").resolve() == (links / "default").resolve()


def test_everybody_can_read_it(place: Place) -> None:
    before = os.umask(0o077)
    try:
        made = place.software.environment()
    finally:
        os.umask(before)
    for path in (place.software.root, made.root, made.root / "lock.txt"):
        assert path.stat().st_mode & stat.S_IROTH, path


def test_packages_are_solved_on_top_of_the_default_set_and_recorded(place: Place) -> None:
    made = place.software.environment(Profile("extra", packages=("xgcm", "dask-ml")))
    compile_, _venv, _sync = place.calls()
    assert compile_[:2] == ["pip", "compile"]
    assert str(place.release.notebook_wanted) in compile_
    recorded = (made.root / "lock.txt").read_text()
    assert recorded.startswith(PINS)
    assert "xgcm==2.0" in recorded
    assert sorted(path.name for path in made.root.parent.iterdir()) == [made.version]
    assert made != place.software.environment()


def test_the_order_of_packages_does_not_matter(place: Place) -> None:
    first = software.profile_spec(Profile(packages=("a", "b")), place.release)
    assert first.key == software.profile_spec(Profile(packages=("b", "a")), place.release).key
    assert first.key != software.profile_spec(Profile(packages=("a",)), place.release).key


def test_a_changed_lock_gets_a_new_version_and_the_old_one_stays(place: Place, tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(PINS)
    old = place.software.environment(Profile("own", lock=lock))
    lock.write_text(PINS + "zarr==3.0\n")
    new = place.software.environment(Profile("own", lock=lock))
    assert old.root != new.root
    assert old.python.is_file()
    assert (place.software.root / "profiles" / "own").resolve() == new.root


def test_a_lock_without_hashes_is_installed_as_it_is(place: Place, tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("\n".join(f"{name}==1.0" for name in SERVES_NOTEBOOKS))
    place.software.environment(Profile("own", lock=lock))
    assert "--require-hashes" not in place.calls()[-1]


def test_an_environment_that_cannot_serve_notebooks_is_refused_and_not_kept(
    place: Place, tmp_path: Path
) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("jupyterhub==1.0\nJupyterLab==1.0\nipykernel==1.0\n")
    with pytest.raises(TidehubError) as caught:
        place.software.environment(Profile("own", lock=lock))
    assert "profile own lacks distributed, dask-gateway" in str(caught.value)
    with pytest.raises(TidehubError):
        place.software.environment(Profile("own", lock=lock))


def test_an_unreadable_lock_is_a_usage_error(place: Place, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        place.software.environment(Profile("own", lock=tmp_path / "none.txt"))
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="it is not text"):
        place.software.environment(Profile("own", lock=tmp_path / "binary.txt"))


def test_a_failed_installation_is_resumed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKEN", "1")
    with pytest.raises(TidehubError, match="is full"):
        place.software.environment()
    monkeypatch.delenv("BROKEN")
    assert place.software.environment().python.is_file()


def test_an_environment_whose_interpreter_left_is_made_again(place: Place) -> None:
    made = place.software.environment()
    made.python.unlink()
    made.python.symlink_to("/nowhere/python3")
    assert place.software.environment().python.is_file()
    assert len(place.calls()) == 4


def test_a_damaged_environment_is_made_anew_without_the_cache(place: Place) -> None:
    made = place.software.environment()
    (made.root / "lock.txt").write_text("")
    again = place.software.environment()
    assert (again.root / "lock.txt").read_text() == PINS
    assert ["--no-cache" in words for words in place.calls()] == [False, False, True, True]
