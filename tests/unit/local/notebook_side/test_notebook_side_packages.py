"""The place for a user's packages, with this Python in the part of a profile's, and a home of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tidehub.local import notebook_side

SIDE = Path(notebook_side.__file__).parent
USE = """
import json, os, sys, time
began = time.monotonic()
import own_packages
problem = own_packages.use()
took = time.monotonic() - began
said = {"problem": problem, "took": took, "python": sys.executable, "path": sys.path[-1]}
print(json.dumps(said | {"env": dict(os.environ)}))
"""


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A profile's environment: one module of it is `profile_module`."""
    root = tmp_path / "environments" / "aaaa-py3"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    modules = root / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    modules.mkdir(parents=True)
    (root / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    (modules / "profile_module.py").write_text("WHERE = 'profile'\n")
    return root


def run(environment: Path, home: Path, code: str, **env: str) -> str:
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [environment / "bin" / "python", "-c", code],
        env={"HOME": str(home), "PATH": f"{environment}/bin:/usr/bin:/bin", "PYTHONPATH": str(SIDE), **env},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_place_is_before_the_profile_for_kernels_and_last_for_the_server(
    environment: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    said = json.loads(run(environment, home, USE))
    place = home / ".local/share/tidehub/packages/aaaa-py3"
    assert (said["problem"], said["python"]) == ("", str(place / "bin/python")) and said["took"] < 0.3
    assert said["env"]["PATH"] == f"{place}/bin:{environment}/bin:/usr/bin:/bin"
    assert said["env"]["TIDEHUB_PACKAGES"] == str(place) and "VIRTUAL_ENV" not in said["env"]
    modules = Path(said["path"])
    assert modules.is_relative_to(place)
    (modules / "profile_module.py").write_text("WHERE = 'own'\n")
    show = "import sys, profile_module; print(profile_module.WHERE, sys.prefix)"
    kernel = subprocess.run([said["python"], "-c", show], capture_output=True, text=True, check=True)
    assert kernel.stdout.split() == ["own", str(place)]
    server = run(environment, home, f"import own_packages; own_packages.use()\n{show}")
    assert server.split()[0] == "profile"
    ran = [environment / "bin/python", SIDE / "with_packages.py", "-c", show]
    worker = subprocess.run(ran, env={"HOME": str(home)}, capture_output=True, text=True, check=True)
    assert worker.stdout.split()[0] == "own"


def test_without_kernels_and_workers_have_the_profile_alone(environment: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    run(environment, home, USE)
    said = json.loads(run(environment, home, USE, TIDEHUB_WITHOUT_PACKAGES="1"))
    assert said["python"] == str(environment / "bin/python") and "packages" not in said["env"]["PATH"]
    ran = [environment / "bin/python", SIDE / "with_packages.py", "-c", "import sys; print(sys.prefix)"]
    worker = subprocess.run(ran, env={"HOME": str(home)}, capture_output=True, text=True, check=True)
    assert worker.stdout.strip() == str(environment)
    said = json.loads(run(environment, home, USE))
    assert said["python"] != str(environment / "bin/python")


@pytest.mark.parametrize("damage", ["file", "python", "configuration", "pipe"])
def test_a_server_starts_whatever_is_wrong_and_mends_what_it_can(
    environment: Path, tmp_path: Path, damage: str
) -> None:
    home = tmp_path / "home"
    said = json.loads(run(environment, home, USE))
    place = Path(said["env"]["TIDEHUB_PACKAGES"])
    if damage == "python":
        (place / "bin/python").unlink()
        (place / "bin/python").mkdir()
    elif damage == "configuration":
        (place / "pyvenv.cfg").write_bytes(b"\xff")
    elif damage == "pipe":
        (place / "pyvenv.cfg").unlink()
        os.mkfifo(place / "pyvenv.cfg")
    else:
        (home / ".local/share/tidehub").rename(home / "moved")
        (home / ".local/share/tidehub").write_text("")
    again = json.loads(run(environment, home, USE))
    if damage == "file":
        assert "cannot be used" in again["problem"] and again["python"] == str(environment / "bin/python")
    else:
        assert again["problem"] == "" and again["python"] == said["python"]


def test_without_packages_nothing_of_theirs_is_looked_at(environment: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    place = Path(json.loads(run(environment, home, USE))["env"]["TIDEHUB_PACKAGES"])
    shutil.rmtree(place / "bin")
    (place / "bin").write_text("")
    said = json.loads(run(environment, home, USE, TIDEHUB_WITHOUT_PACKAGES="1"))
    assert (said["problem"], (place / "bin").read_text()) == ("", "")


def test_the_first_start_on_another_version_says_what_was_asked_for(
    environment: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    said = json.loads(run(environment, home, USE))
    for name in ("some_thing-1.2", "dependency-3.4", "pip-26.3"):
        info = Path(said["path"]) / f"{name}.dist-info"
        info.mkdir()
        if not name.startswith("dependency"):
            (info / "REQUESTED").touch()
    newer = environment.rename(environment.with_name("bbbb-py3"))
    json.loads(run(newer, home, USE))
    text = (home / "packages-of-former-environment.txt").read_text()
    assert [line for line in text.splitlines() if line and not line.startswith("#")] == [
        "some-thing  # was 1.2"
    ]
    assert f"rm -r '{home}/.local/share/tidehub/packages/aaaa-py3'" in text
    (home / "packages-of-former-environment.txt").unlink()
    json.loads(run(newer, home, USE))
    assert not (home / "packages-of-former-environment.txt").exists()
