"""The built wheel, installed where nothing else is, started from a directory that is no checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tidehub.local.software import index, installer, layout
from tidehub.local.software.progress import Silent
from tidehub.release_sets import release

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCE = CHECKOUT / "src" / "tidehub"
NOT_SHIPPED = {"__pycache__", ".mypy_cache", ".ruff_cache"}

pytestmark = pytest.mark.real


def build(kind: str, place: Path) -> Path:
    """The wheel or source distribution, built with what the test environment holds."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(place)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (built,) = place.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that every user can enter, as the parts of a platform run under several uids; with a short path."""
    made = Path(tempfile.mkdtemp(prefix="tidehub-wheel-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def installed(wheel: Path, place: Path) -> Path:
    """The `tidehub` program of an environment that held nothing before the wheel and its dependencies."""
    root = layout.default_root()
    uv = str(installer.find(root, Silent()).program)
    env = index.uv_environment(root)
    environment = place / "environment"
    for argv in (
        [uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(environment)],
        [
            *(
                uv,
                "pip",
                "install",
                "--quiet",
                "--compile-bytecode",
                "--python",
                str(environment / "bin" / "python"),
            ),
            *("--constraints", str(release().control), str(wheel)),
        ],
    ):
        done = subprocess.run(
            argv, env=env, cwd=place, capture_output=True, text=True, timeout=600, umask=0o022
        )
        assert done.returncode == 0, done.stderr
    return environment / "bin" / "tidehub"


def outside(place: Path) -> Mapping[str, str]:
    """An environment without any trace of the checkout or of the test environment."""
    kept = {
        name: os.environ[name] for name in ("HOME", "TIDEHUB_SOFTWARE", "SSL_CERT_FILE") if name in os.environ
    }
    kept |= {
        name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "npm_config_"))
    }
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **kept}


def run(program: Path, place: Path, *words: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(program), *words],
        env=dict(outside(place)),
        cwd=place,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def package_files() -> set[str]:
    found = (path for path in SOURCE.rglob("*") if path.is_file() and not NOT_SHIPPED & set(path.parts))
    return {f"tidehub/{path.relative_to(SOURCE)}" for path in found}


def test_the_wheel_carries_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == package_files()


def test_the_source_distribution_starts_and_builds(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path / "built")) as archive:
        archive.extractall(tmp_path)
    (unpacked,) = (path for path in tmp_path.iterdir() if path.name != "built")
    for name in ("tidehub", "test", "bootstrap/enter.py", "LICENSE", "README.md", "pyproject.toml"):
        assert (unpacked / name).is_file(), name
    assert list((unpacked / "bootstrap").glob("pip-*.whl"))
    assert os.access(unpacked / "tidehub", os.X_OK)
    assert {f"tidehub/{path}" for path in _below(unpacked / "src" / "tidehub")} == package_files()


def _below(folder: Path) -> Iterator[Path]:
    return (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def test_it_runs_from_another_directory(installed: Path, place: Path) -> None:
    done = run(installed, place, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    python = installed.with_name("python")
    where = run(
        python, place, "-c", "import tidehub; print(tidehub.__file__, tidehub.__version__)"
    ).stdout.split()
    assert done.stdout == f"tidehub {where[1]}\n"
    assert Path(where[0]).is_relative_to(place)


def test_up_and_check(installed: Path, place: Path) -> None:
    state = place / "state"
    try:
        up = run(installed, place, "up", "--state", str(state), "--port", "0", "--detach")
        assert up.returncode == 0, f"{up.stdout}\n{up.stderr}"
        check = run(installed, place, "check", "--state", str(state), "--json")
        phases = json.loads(check.stdout)["phases"]
        assert [phase for phase in phases if not phase["ok"]] == []
        assert check.returncode == 0, check.stderr
    finally:
        down = run(installed, place, "down", "--state", str(state))
    assert down.returncode == 0, f"{down.stdout}\n{down.stderr}"
