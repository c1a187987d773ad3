"""`./tidehub` before there is an environment, and when there is one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tidehub.cli.failure import failure_json
from tidehub.errors import TidehubError
from tidehub.local.software import directories, layout
from tidehub.release_sets import release

CHECKOUT = Path(__file__).resolve().parents[3]
CLOSED_PORT = "http://127.0.0.1:9"


def tidehub(software: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(CHECKOUT / "tidehub"), *arguments],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(software.parent),
            "TIDEHUB_SOFTWARE": str(software),
            "TIDEHUB_PYTHON": sys.executable,
            **env,
        },
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def made_up_environment(software: Path, kind: str = "control") -> Path:
    """A complete environment whose Python only says how it was started."""
    lock = release().directory / f"{kind}.txt"
    directory = software / kind / f"{layout.digest(lock.read_bytes())}-py311"
    (directory / "bin").mkdir(parents=True)
    (directory / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    (directory / "pyvenv.cfg").write_text("home = /usr/bin\n")
    python = directory / "lib" / "says"
    python.write_text('#!/bin/sh\necho "$0" "$@" "path=$PYTHONPATH"\n')
    python.chmod(0o755)
    (directory / "bin" / "python").symlink_to(python)
    directories.complete(directory, {})
    return directory


def test_ctrl_c_waits_until_the_program_can_answer_it(tmp_path: Path) -> None:
    says = made_up_environment(tmp_path / "software") / "lib" / "says"
    # Not a shell: dash unblocks everything when it starts.
    says.write_text(f"#!{sys.executable}\nprint(open('/proc/self/status').read())\n")
    done = tidehub(tmp_path / "software", "status")
    assert done.returncode == 0, done.stderr
    blocked = re.findall(r"SigBlk:\s*([0-9a-f]+)", done.stdout)
    assert int(blocked[0], 16) & 1 << (signal.SIGINT - 1)


def test_the_bundled_pip_is_the_released_one() -> None:
    (wheel,) = (CHECKOUT / "bootstrap").glob("pip-*.whl")
    stated = (CHECKOUT / "bootstrap" / "README.md").read_text()
    assert wheel.name in stated
    assert re.findall(r"sha256 ([0-9a-f]{64})", stated) == [hashlib.sha256(wheel.read_bytes()).hexdigest()]


def test_a_complete_environment_is_entered_without_a_word(tmp_path: Path) -> None:
    software = tmp_path / "software"
    made_up_environment(software)
    done = tidehub(software, "up", "--port", "0", PIP_INDEX_URL=CLOSED_PORT)
    assert (done.returncode, done.stderr) == (0, "")
    started = re.fullmatch(r"(\S+)/bin/python -I -m tidehub up --port 0 path=\n", done.stdout)
    assert started
    place = Path(started[1])
    assert place.parent == software / "tidehub"
    assert (place / "lib" / "python3.11" / "site-packages" / "tidehub" / "cli" / "main.py").is_file()


def test_an_emptied_file_is_noticed_after_a_boot_and_before_every_up(open_to_all: Path) -> None:
    software = open_to_all / "software"
    directory = made_up_environment(software)
    assert tidehub(software, "status", PIP_INDEX_URL=CLOSED_PORT).returncode == 0
    (directory / "pyvenv.cfg").write_text("")
    assert tidehub(software, "status", PIP_INDEX_URL=CLOSED_PORT).returncode == 0
    # A port that is free and a state that is nobody's: `up` looks for both before anything else.
    done = tidehub(
        software, "up", "--port", "0", "--state", str(open_to_all / "state"), PIP_INDEX_URL=CLOSED_PORT
    )
    assert (done.returncode, "needs the network" in done.stderr) == (1, True)
    (directory / layout.CHECKED).write_text("another boot\n")
    assert tidehub(software, "status", PIP_INDEX_URL=CLOSED_PORT).returncode == 1


def test_modes_of_a_narrow_umask_are_mended(tmp_path: Path) -> None:
    software = tmp_path / "software"
    directory = made_up_environment(software)
    for path in (directory / "lib", directory / "bin", directory, directory.parent, software):
        path.chmod(0o700)
    assert tidehub(software, "status").returncode == 0
    for path in (directory / "lib", directory / "bin", directory, directory.parent, software):
        assert path.stat().st_mode & 0o777 == 0o755, path


def test_an_interrupted_environment_is_not_entered(tmp_path: Path) -> None:
    software = tmp_path / "software"
    made_up_environment(software)
    next((software / "control").glob("*/complete.json")).unlink()
    done = tidehub(software, "--version", PIP_INDEX_URL=CLOSED_PORT)
    assert done.returncode == 1
    assert "path=" not in done.stdout


def test_without_the_network_it_says_what_it_needs(tmp_path: Path) -> None:
    done = tidehub(
        tmp_path / "software", "--version", PIP_INDEX_URL=f"http://ann:pw1@{CLOSED_PORT[7:]}/simple"
    )
    assert done.returncode == 1
    assert "needs the network" in done.stderr
    assert "PIP_INDEX_URL" in done.stderr
    assert "Traceback" not in done.stderr
    assert "pw1" not in done.stderr
    assert not list((tmp_path / "software").glob("*/*/complete.json"))


def test_a_software_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = tidehub(tmp_path / "file" / "software", "--version", HOME=str(tmp_path))
    assert done.returncode == 1
    assert "cannot be created" in done.stderr
    assert "Traceback" not in done.stderr


def find_python(script: Path, path: str, words: str = "") -> subprocess.CompletedProcess[str]:
    command = f'. "{script}"; find_python {words}; echo "found $python"'
    return subprocess.run(
        ["/bin/sh", "-c", command], env={"PATH": path}, capture_output=True, text=True, timeout=30
    )


def test_a_python_is_found() -> None:
    found = find_python(CHECKOUT / "bootstrap" / "find-python.sh", os.environ["PATH"])
    assert re.match(r"found /\S*python3", found.stdout)


def test_an_old_python_is_refused_with_what_to_install(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    script = tmp_path / "find-python.sh"
    original = (CHECKOUT / "bootstrap" / "find-python.sh").read_text()
    script.write_text(original.replace("/usr/bin /usr/local/bin", str(tmp_path)))
    found = find_python(script, str(tmp_path))
    assert found.returncode == 1
    assert "no Python 3.11 to 3.14" in found.stderr
    assert "apt-get install python3" in found.stderr
    told = json.loads(find_python(script, str(tmp_path), "status --json").stdout)
    assert (told["ok"], "no Python" in told["what"], "apt-get" in told["fix"]) == (False, True, True)
    assert list(told) == list(failure_json(TidehubError("")))


def test_what_keeps_the_set_up_from_beginning_is_json_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [str(CHECKOUT / "tidehub"), "status", "--json"],
        env={"PATH": "/usr/bin:/bin", "TIDEHUB_SOFTWARE": str(tmp_path / "file" / "software")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    told = json.loads(done.stdout)
    assert (done.returncode, told["ok"]) == (1, False) and "software" in told["what"]


@pytest.mark.parametrize(("name", "kind"), [("tidehub", "control"), ("test", "test")])
def test_the_scripts_are_found_through_links(name: str, kind: str, tmp_path: Path) -> None:
    link = tmp_path / name
    link.symlink_to(CHECKOUT / name)
    software = tmp_path / "software"
    made_up_environment(software, kind)
    done = subprocess.run(
        [str(link), "word"],
        env={"PATH": "/usr/bin:/bin", "TIDEHUB_SOFTWARE": str(software), "TIDEHUB_PYTHON": sys.executable},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.split()[-2] == "word"
