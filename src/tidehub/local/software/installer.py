"""Installs locked packages: uv in the ordinary case, and the pip that brings uv where nothing is there yet; and says
what a failed uv, pip or npm means for the user who waits.

Hashes are always required of what a release set names, nothing is ever compiled, and no interpreter is
downloaded. Only the standard library: the first set-up uses it.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.local import process
from tidehub.local.process import ProgramFailed
from tidehub.local.software import directories, index, layout
from tidehub.local.software.layout import OPEN_DIRECTORY
from tidehub.local.software.progress import Progress

PATIENCE = 3600.0
"""Seconds for one installation; a slow line brings the notebook environment in minutes."""
_CONTROL_NAMES = re.compile(r"^[A-Za-z0-9]")
_TELLING = re.compile(r"^\s*(Downloading|Downloaded|Prepared|Installed|Resolved|Bytecode)\b")


class Installer:
    """uv at `program`, working below the software root `root`."""

    def __init__(self, program: Path, root: Path, progress: Progress) -> None:
        self.program = program
        self.root = root
        self.progress = progress
        self._fresh = False

    def distrust_downloads(self) -> None:
        """Fetch everything anew from here on: what uv installs is linked to its cache, so damage is there too."""
        self._fresh = True

    def environment(
        self, directory: Path, python: Path, lock: Path, *, label: str, hashes: bool = True
    ) -> None:
        """Make a virtual environment of exactly what `lock` names, in two steps: installed, then byte-compiled."""
        doing = f"Installing {label}"
        self.progress.step(doing)
        self._uv(["venv", "--quiet", "--no-project", "--clear", "--python", python, directory], doing)
        required = ["--require-hashes"] if hashes else []
        self._uv(
            [
                *("pip", "sync", "--python", directory / "bin" / "python"),
                *required,
                *("--no-build", "--compile-bytecode", lock),
            ],
            doing,
            then=f"Compiling the bytecode of {label}",
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

    def _uv(self, arguments: Sequence[str | Path], doing: str, *, then: str = "") -> None:
        """`then` is the step that begins when all is installed: uv says that, and not that it compiles."""

        def tell(line: str) -> None:
            if then and line.lstrip().startswith("Installed "):
                self.progress.step(then)
            elif _TELLING.match(line):
                self.progress.detail(line.strip())

        fresh = ["--no-cache"] if self._fresh else []
        run_confined(
            [self.program, *arguments, "--no-python-downloads", *fresh],
            index.uv_environment(self.root),
            self.root,
            doing=doing,
            on_line=tell,
        )


def run_confined(
    argv: Sequence[str | Path],
    env: Mapping[str, str],
    root: Path,
    *,
    doing: str,
    cwd: Path | None = None,
    on_line: Callable[[str], None] | None = None,
) -> process.Finished:
    """Run one program of the set-up with a private home and private temporary files below `root`.

    What it makes gets the modes of umask 022. Raises `TidehubError` that explains its failure.
    """
    with index.workplace(root) as place:
        try:
            return process.run(
                argv,
                env=index.confined(env, place),
                cwd=cwd
                or place,  # not the caller's: uv reads pyproject.toml and uv.toml of the directory where it stands
                deadline=PATIENCE,
                on_line=on_line,
                umask=0o022,
            )
        except ProgramFailed as error:
            raise explain(error, doing, root) from error


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


def _place(root: Path, lock: Path) -> Path:
    return root / "uv" / requirement(lock, "uv").split()[0].partition("==")[2]


def is_fetched(root: Path, lock: Path) -> bool:
    """Whether `fetched` has nothing to do."""
    return layout.is_complete(_place(root, lock))


def fetched(root: Path, lock: Path, pip: Path, python: Path, progress: Progress) -> Path:
    """uv, fetched once by `pip` (a pip wheel, which runs as it lies) at the version and hashes that `lock`
    names.
    """
    wanted = requirement(lock, "uv")
    directory = _place(root, lock)

    def build(target: Path) -> dict[str, str]:
        doing = "Fetching the installer (uv)"
        progress.step(doing)
        directories.make_folder(target)
        with index.workplace(root) as scratch:
            asked = scratch / "uv.txt"
            asked.write_text(wanted, encoding="utf-8")
            argv: list[str | Path] = [
                *(python, "-I", "-S", pip / "pip", "download", "--disable-pip-version-check", "--no-input"),
                *("--no-deps", "--only-binary", ":all:", "--require-hashes", "--no-cache-dir"),
                *("--retries", "2", "--progress-bar", "off", "--requirement", asked, "--dest", scratch),
            ]
            run_confined(argv, index.pip_environment(), root, doing=doing)
            (wheel,) = scratch.glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                (member,) = [name for name in archive.namelist() if name.endswith(".data/scripts/uv")]
                with archive.open(member) as packed, (target / "uv").open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
                    os.fchmod(unpacked.fileno(), OPEN_DIRECTORY)
        return {"version": target.name}

    return directories.build_once(root, directory, build, progress=progress) / "uv"


# What the three programs write; each alternative was seen from uv 0.13, pip 26 or npm 11.
_FULL = re.compile(r"No space left on device|Disk quota exceeded|ENOSPC|EDQUOT|os error 28\b", re.I)
_MISMATCH = re.compile(r"Hash mismatch|DO NOT MATCH THE HASHES|EINTEGRITY|HashMismatch|Digest mismatch", re.I)
_NETWORK = re.compile(
    r"error sending request|dns error|Could not connect|tcp connect error|connection (?:refused|reset|broken)"
    r"|NewConnectionError|Name or service not known|Temporary failure in name resolution"
    r"|Failed to (?:fetch|resolve)|timed? ?out|took longer than|Network is unreachable|offline"
    r"|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH",
    re.I,
)
_CERTIFICATE = re.compile(r"certificate|CERT_|SSLError|UnknownIssuer", re.I)
_NO_SOLUTION = re.compile(r"No solution found|unsatisfiable|ResolutionImpossible|ERESOLVE", re.I)
_NO_WHEEL = re.compile(r"no usable wheels|building source distributions is disabled|has no wheels", re.I)

NEEDS = "the Python package index and the npm registry (about 400 MB, once; later starts need no network)"


class NetworkNeeded(TidehubError):
    """Something is missing and could not be fetched."""


def explain(error: ProgramFailed, doing: str, root: Path) -> TidehubError:
    """The error to show for `error`, which happened while `doing` (such as "Installing Node.js")."""
    text = f"{error}\n{error.output}"
    if _FULL.search(text):
        return directories.disk_full(root)
    if _MISMATCH.search(text):
        return TidehubError(
            f"{doing} failed: a downloaded file is not the one that the lock file names.\n{_quoted(error)}",
            expected="the hash recorded when this release set was tested",
            fix="check the package index or proxy that this machine uses; nothing of the download was kept",
        )
    if _NO_SOLUTION.search(text):
        return TidehubError(
            f"{doing} failed: the packages contradict each other or do not exist.\n{_quoted(error)}",
            fix="change the profile's packages; pins of the release set's own parts cannot be changed",
        )
    if _NO_WHEEL.search(text):
        return TidehubError(
            f"{doing} failed: a package has no wheel for this machine.\n{_quoted(error)}",
            fix="choose a version of the package that has one for this Python; nothing is compiled here",
        )
    if _CERTIFICATE.search(text):
        return NetworkNeeded(
            f"{doing} failed: the package index's certificate is not trusted.\n{_quoted(error)}",
            expected=f"a trusted connection to {NEEDS}",
            fix="name the file with your site's certificates: SSL_CERT_FILE=FILE NODE_EXTRA_CA_CERTS=FILE",
        )
    if _NETWORK.search(text):
        return NetworkNeeded(
            f"{doing} needs the network, and it does not answer:\n{_reason(error)}",
            expected=f"a connection to {NEEDS}",
            fix="connect this machine, or name a mirror (PIP_INDEX_URL, npm_config_registry) or a proxy "
            "(HTTPS_PROXY), and run the same command again: what was fetched is kept",
        )
    return TidehubError(f"{doing} failed: {error}")


def _reason(error: ProgramFailed) -> str:
    lines = error.output.splitlines() or [error.what]
    telling = next((line for line in lines if _NETWORK.search(line)), lines[-1]).strip()
    return f"    {telling[:200]}{'...' if len(telling) > 200 else ''}"


def _quoted(error: ProgramFailed) -> str:
    lines = error.output.splitlines()[-4:]
    return "\n".join(f"    {line}" for line in (lines or [error.what]))
