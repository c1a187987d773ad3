"""`tests/cluster/prepare`: complete or not there, quick when done, and clear about what it lacks. With a go that only
pretends: compiling takes minutes.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import cluster_programs
import pytest

from tidehub.local.software import layout

PREPARE = Path(__file__).parent.parent / "cluster" / "prepare"
SAYS_VERSION = 'if [ "$1" = env ]; then echo go1.25.3; exit; fi\n'
BUILDS = (
    'while [ "$1" != -o ]; do shift; done\nmkdir -p "$(dirname "$2")"; echo program > "$2"; chmod 700 "$2"\n'
)
FAILS = 'case "$*" in *cmd/helm) echo "helm.go:1: it does not compile" >&2; exit 1;; esac\n'


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A software root of the test's own."""
    monkeypatch.setenv("TIDEHUB_SOFTWARE", str(tmp_path / "software"))
    return tmp_path / "software"


def pretended_go(folder: Path, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "go").write_text(f"#!/bin/sh\n{script}")
    (folder / "go").chmod(0o755)


def prepare(
    root: Path, *arguments: str, path: str = "/usr/bin:/bin", **more: str
) -> subprocess.CompletedProcess[str]:
    env = {"PATH": path, "TIDEHUB_SOFTWARE": str(root), "HOME": str(root.parent), **more}
    return subprocess.run([PREPARE, *arguments], env=env, capture_output=True, text=True)


def test_versions_come_from_the_modules() -> None:
    found = cluster_programs.versions()
    assert set(found) == {"kubernetes", "helm3", "helm4", "etcd", "kwok"}
    assert found["kubernetes"].startswith("v1.34.")
    assert found["helm3"].startswith("v3.") and found["helm4"].startswith("v4.")


def test_it_says_where(root: Path) -> None:
    done = prepare(root, "--where")
    assert (done.returncode, done.stdout.strip()) == (0, str(cluster_programs.where()))
    assert Path(done.stdout.strip()).parent == root / "test-cluster"
    assert not root.exists(), "asking makes nothing"


def test_what_is_half_built_does_not_count(root: Path) -> None:
    (cluster_programs.where()).mkdir(parents=True)
    (cluster_programs.where() / "etcd").touch()
    assert cluster_programs.find() is None


def test_it_builds_once_and_is_quick_then(root: Path, tmp_path: Path) -> None:
    pretended_go(tmp_path / "bin", SAYS_VERSION + BUILDS)
    path = f"{tmp_path / 'bin'}:/usr/bin:/bin"
    done = prepare(root, path=path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(cluster_programs.where())
    assert "Building kube-apiserver" in done.stderr
    programs = cluster_programs.find()
    assert programs is not None
    for program in (
        programs.etcd,
        programs.kube_apiserver,
        programs.kwok,
        programs.helm(3),
        programs.helm(4),
    ):
        assert program.read_text() == "program\n"
        assert program.stat().st_mode & 0o001 or os.geteuid() != 0, "as root, for everybody"
    assert [entry.name for entry in programs.directory.parent.iterdir()] == [programs.directory.name]
    pretended_go(tmp_path / "bin", "exit 1")
    began = time.monotonic()
    assert prepare(root, path=path).returncode == 0
    assert time.monotonic() - began < 5, "under a second on an idle machine"


def test_a_build_that_fails_says_why_and_leaves_nothing_complete(root: Path, tmp_path: Path) -> None:
    pretended_go(tmp_path / "bin", SAYS_VERSION + FAILS + BUILDS)
    done = prepare(root, path=f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert done.returncode == 1
    assert "go could not build helm.sh/helm/v4/cmd/helm" in done.stderr
    assert "helm.go:1: it does not compile" in done.stderr
    assert "Traceback" not in done.stderr
    assert not layout.is_complete(cluster_programs.where())
    pretended_go(tmp_path / "bin", SAYS_VERSION + BUILDS)
    assert prepare(root, path=f"{tmp_path / 'bin'}:/usr/bin:/bin").returncode == 0


def test_without_go_and_without_an_index_it_says_how_to_get_go(root: Path, tmp_path: Path) -> None:
    pretended_go(tmp_path / "bin", "echo go1.19.8")
    nowhere = "http://127.0.0.1:1/simple"
    indexes = {
        "PIP_INDEX_URL": nowhere,
        "UV_DEFAULT_INDEX": nowhere,
        "PIP_RETRIES": "0",
        "UV_HTTP_RETRIES": "0",
    }
    done = prepare(root, path=f"{tmp_path / 'bin'}:/usr/bin:/bin", **indexes)
    assert done.returncode == 1
    assert "go 1.24 or newer is not on PATH, and could not be fetched either" in done.stderr
    assert "apt-get install golang" in done.stderr
    assert "Traceback" not in done.stderr


def test_other_arguments_are_refused(root: Path) -> None:
    done = prepare(root, "--force")
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: tests/cluster/prepare [--where]" in done.stderr
