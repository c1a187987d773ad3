"""Installs locked packages: uv in the ordinary case, and the pip that brings uv where nothing is there yet.

Hashes are always required of what a release set names, nothing is ever compiled, and no interpreter is
downloaded. Only the standard library: the first set-up uses it.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.local import process
from tidehub.local.software import directories, failures, index, layout
from tidehub.local.software.progress import Progress

PATIENCE = 3600.0
"""Seconds for one installation; a slow line brings the notebook environment in minutes."""
_CONTROL_NAMES = re.compile(r"^[A-Za-z0-9]")
_TELLING = re.compile(r"^\s*(Downloading|Downloaded|Prepared|Installed|Resolved|Bytecode)\b")


@dataclass(frozen=True)
class Installer:
    """uv at `program`, working below the software root `root`."""

    program: Path
    root: Path
    progress: Progress

    def environment(
        self, directory: Path, python: Path, lock: Path, *, doing: str, hashes: bool = True
    ) -> None:
        """Make a virtual environment of exactly what `lock` names, byte-compiled."""
        self._uv(["venv", "--quiet", "--no-project", "--clear", "--python", python, directory], doing)
        required = ["--require-hashes"] if hashes else []
        self._uv(
            [
                "pip",
                "sync",
                "--python",
                directory / "bin" / "python",
                *required,
                "--no-build",
                "--compile-bytecode",
                lock,
            ],
            doing,
        )

    def folder(self, directory: Path, python: Path, lock: Path, *, doing: str) -> None:
        """Unpack what `lock` names into a plain folder."""
        self._uv(
            [
                *("pip", "install", "--python", python, "--target", directory),
                *("--require-hashes", "--no-deps", "--no-build", "--requirements", lock),
            ],
            doing,
        )

    def solve(self, wanted: Sequence[Path], lock: Path, python: Path, *, doing: str) -> None:
        """Solve `wanted` requirement files into `lock` with hashes; pins that `lock` already holds are kept
        if possible.
        """
        self._uv(
            [
                *("pip", "compile", "--quiet", "--python", python, "--generate-hashes", "--no-build"),
                *("--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"),
                *("--output-file", lock),
                *wanted,
            ],
            doing,
        )

    def _uv(self, arguments: Sequence[str | Path], doing: str) -> None:
        def tell(line: str) -> None:
            if _TELLING.match(line):
                self.progress.detail(line.strip())

        try:
            process.run(
                [self.program, *arguments, "--no-python-downloads"],
                env=index.uv_environment(self.root),
                cwd=self.root,  # uv reads pyproject.toml and uv.toml of the directory where it stands
                deadline=PATIENCE,
                on_line=tell,
            )
        except process.ProgramFailed as error:
            raise failures.explain(error, doing, self.root) from error


def requirement(lock: Path, name: str) -> str:
    """The lines of `lock` for the package `name`, with its hashes. Raises `TidehubError` when it is not
    there.
    """
    kept: list[str] = []
    for line in lock.read_text(encoding="utf-8").splitlines():
        if _CONTROL_NAMES.match(line):
            if kept:
                break
            if line.startswith(f"{name}=="):
                kept.append(line)
        elif kept and line.startswith(" "):
            kept.append(line)
    if not kept:
        raise TidehubError(f"{lock} does not name {name}", fix="reinstall tidehub: this file came with it")
    return "\n".join(kept) + "\n"


def find(root: Path, progress: Progress) -> Installer:
    """The uv that came with this program's own environment. Raises `TidehubError` where it did not."""
    own = Path(sys.prefix) / "bin" / "uv"
    if own.is_file():
        return Installer(own, root, progress)
    try:
        from uv import find_uv_bin  # an installation with --user keeps programs elsewhere

        return Installer(Path(find_uv_bin()), root, progress)
    except (ImportError, FileNotFoundError) as error:
        raise TidehubError(
            "uv, which installs the environments, is missing",
            fix="install tidehub with its dependencies (pip install tidehub), or start ./tidehub",
        ) from error


def fetched(root: Path, lock: Path, pip: Path, python: Path, progress: Progress) -> Path:
    """uv, fetched once by `pip` (a pip wheel, which runs as it lies) at the version and hashes that `lock`
    names.
    """
    wanted = requirement(lock, "uv")
    directory = root / "uv" / wanted.split()[0].partition("==")[2]
    if layout.is_complete(directory):
        return directory / "uv"

    def build(target: Path) -> dict[str, str]:
        progress.step("Fetching the installer (uv)")
        target.mkdir()
        with tempfile.TemporaryDirectory(dir=root) as scratch:
            asked = Path(scratch) / "uv.txt"
            asked.write_text(wanted, encoding="utf-8")
            try:
                process.run(
                    [
                        *(python, "-I", "-S", pip / "pip", "download", "--disable-pip-version-check"),
                        *(
                            "--no-input",
                            "--no-deps",
                            "--only-binary",
                            ":all:",
                            "--require-hashes",
                            "--retries",
                            "2",
                        ),
                        *(
                            "--no-cache-dir",
                            "--progress-bar",
                            "off",
                            "--requirement",
                            asked,
                            "--dest",
                            scratch,
                        ),
                    ],
                    env=index.pip_environment(),
                    cwd=root,
                    deadline=PATIENCE,
                )
            except process.ProgramFailed as error:
                raise failures.explain(error, "Fetching the installer (uv)", root) from error
            (wheel,) = Path(scratch).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                (member,) = [name for name in archive.namelist() if name.endswith(".data/scripts/uv")]
                with archive.open(member) as packed, (target / "uv").open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
        (target / "uv").chmod(0o755)
        return {"version": target.name}

    return directories.build_once(root, directory, build, progress=progress) / "uv"
