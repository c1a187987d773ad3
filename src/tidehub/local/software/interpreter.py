"""Which Python the environments stand on.

An environment only links to its interpreter. As root the notebooks run under other uids, so the interpreter
must be one that every uid can reach: a Python below somebody's 0700 home is not. Only the standard library:
the first set-up uses it.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.local import process
from tidehub.local.software import directories
from tidehub.local.software.progress import Progress

OLDEST = (3, 11)
NEWEST = (3, 14)
NOBODY = 65534
INSTALL = "install one, for example with: apt-get install python3 (Debian 12, Ubuntu 24.04 or newer)"

_NEEDED = ("bz2", "ctypes", "lzma", "sqlite3", "ssl", "zlib")
_QUESTION = f"""
import importlib, json, os, sys
lacks = []
for name in {_NEEDED!r}:
    try:
        importlib.import_module(name)
    except ImportError:
        lacks.append(name)
with open("/proc/self/maps") as maps:
    libraries = [line.split()[-1] for line in maps if "/libpython3." in line]
print(json.dumps(dict(
    version=list(sys.version_info[:3]),
    executable=os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable),
    prefix=os.path.realpath(sys.base_prefix),
    stdlib=os.path.realpath(os.path.dirname(os.__file__)),
    library=min(libraries, default=""),
    lacks=lacks,
)))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python on this machine: its real executable, not a link or a virtual environment."""

    executable: Path
    version: tuple[int, int, int]
    prefix: Path
    stdlib: Path
    library: Path | None
    """The shared libpython, where the executable needs one."""

    @property
    def tag(self) -> str:
        """Short name for directories, for example `py311`."""
        return f"py{self.version[0]}{self.version[1]}"

    @property
    def parts(self) -> tuple[Path, ...]:
        """Everything on disk that must be there for it to start."""
        return (self.executable, self.stdlib / "os.py", *((self.library,) if self.library else ()))


class Unsuitable(Exception):
    """Why one candidate is not used; the text is for the list that a person reads."""


def candidates(environ: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """Executables to try, best first: the system's own, then PATH, then the Python that runs this program.

    `TIDEHUB_PYTHON` names the only one to try.
    """
    if chosen := environ.get("TIDEHUB_PYTHON"):
        yield Path(chosen)
        return
    names = ["python3", *(f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1))]
    folders = ["/usr/bin", "/usr/local/bin", *environ.get("PATH", "").split(os.pathsep)]
    seen: set[Path] = set()
    for folder in folders:
        for name in names:
            path = Path(folder) / name
            if folder.startswith("/") and path not in seen and os.access(path, os.X_OK):
                seen.add(path)
                yield path
    yield Path(sys.executable)


def examine(path: Path) -> Interpreter:
    """Ask an executable what it is. Raises `Unsuitable` for what is no Python of a supported version with all
    modules.
    """
    try:
        answer = process.run([path, "-I", "-S", "-c", _QUESTION], env={"PATH": "/usr/bin:/bin"}, deadline=30)
        told = json.loads(answer.stdout)
        version = tuple(told["version"])
    except (process.ProgramFailed, ValueError, KeyError) as error:
        raise Unsuitable("does not run") from error
    if not OLDEST <= version[:2] <= NEWEST:
        raise Unsuitable(f"is Python {version[0]}.{version[1]}")
    if told["lacks"]:
        raise Unsuitable(f"was built without {', '.join(told['lacks'])}")
    return Interpreter(
        executable=Path(told["executable"]),
        version=(version[0], version[1], version[2]),
        prefix=Path(told["prefix"]),
        stdlib=Path(told["stdlib"]),
        library=Path(os.path.realpath(told["library"])) if told["library"] else None,
    )


def closed_to_others(path: Path) -> Path | None:
    """The first file or directory on the way to `path` that other users may not enter or read; None if they may.

    Both ways count for a link, as an environment's `python` is one: to where it stands and to what it names.
    """
    real = Path(os.path.realpath(path))
    for place in dict.fromkeys([*reversed(path.absolute().parents), *reversed(real.parents), real]):
        mode = place.stat().st_mode
        needed = stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH
        if place == real and stat.S_ISDIR(mode):
            needed |= stat.S_IROTH
        if mode & needed != needed:
            return place
    return None


def reachable_by_everyone(found: Interpreter) -> None:
    """Raise `Unsuitable` unless any uid can run `found`; as root that is also tried for real, as nobody."""
    for part in found.parts:
        if closed := closed_to_others(part):
            raise Unsuitable(f"lies below {closed}, which other users cannot enter")
    if os.geteuid() == 0:
        try:
            process.run(
                [found.executable, "-I", "-S", "-c", f"import {', '.join(_NEEDED)}"],
                env={"PATH": "/usr/bin:/bin"},
                cwd=Path("/"),
                deadline=30,
                uid=NOBODY,
                gid=NOBODY,
            )
        except process.ProgramFailed as error:
            raise Unsuitable("does not run for other users") from error


def choose(
    root: Path, *, everyone: bool, progress: Progress, tried: Iterable[Path] | None = None
) -> Interpreter:
    """The Python for the environments below `root`; with `everyone` one that every uid can run.

    Where all suitable ones are closed to others, the first is copied below `root`. Raises `TidehubError` with
    every candidate and why it was refused when there is none.
    """
    refused: list[str] = []
    closed: Interpreter | None = None
    for path in candidates() if tried is None else tried:
        try:
            found = examine(path)
            if everyone:
                try:
                    reachable_by_everyone(found)
                except Unsuitable:
                    closed = closed or found
                    raise
        except Unsuitable as error:
            refused.append(f"{path} {error}")
        else:
            return found
    if closed is not None:
        return copied(closed, root, progress)
    listed = "; ".join(refused) or "none was found"
    raise TidehubError(
        f"No suitable Python on this machine: {listed}",
        expected=f"Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}",
        fix=INSTALL,
    )


def copied(found: Interpreter, root: Path, progress: Progress) -> Interpreter:
    """A copy of `found`'s prefix below `root` that every uid can run.

    CPython finds its library from where its executable stands, so a copied prefix works; what site-packages
    held is left out. Raises `TidehubError` when the copy does not run for other users.
    """
    version = ".".join(map(str, found.version))

    def build(directory: Path) -> dict[str, str]:
        progress.step(f"Copying Python {version}, because other users cannot reach {found.prefix}")
        (directory / "bin").mkdir(parents=True)
        name = f"python{found.version[0]}.{found.version[1]}"
        shutil.copy2(found.executable, directory / "bin" / name)
        for alias in ("python3", "python"):
            (directory / "bin" / alias).symlink_to(name)
        shutil.copytree(
            found.stdlib,
            directory / "lib" / found.stdlib.name,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__", "site-packages", "test", "idlelib", "turtledemo"),
        )
        (directory / "lib" / found.stdlib.name / "site-packages").mkdir()
        if found.library:
            shutil.copy2(found.library, directory / "lib" / found.library.name)
            _look_beside(directory / "bin" / name, found.library.parent)
        directories.make_readable(directory)
        try:
            reachable_by_everyone(examine(directory / "bin" / name))
        except Unsuitable as error:
            raise TidehubError(
                f"Other users cannot run {found.executable}, and a copy of it {error}",
                expected=f"Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]} that every user can run",
                fix=INSTALL,
            ) from error
        return {"from": str(found.prefix), "version": version}

    directory = directories.build_once(root, root / "python" / version, build, progress=progress)
    return examine(directory / "bin" / "python3")


def _look_beside(executable: Path, old: Path) -> None:
    """Let the copied `executable` find libpython in its own prefix instead of in `old`.

    The run path is a string in the file's dynamic section; a shorter one fits in its place (see ld.so(8), $ORIGIN).
    """
    was, wanted = os.fsencode(old) + b"\0", b"$ORIGIN/../lib\0"
    if len(wanted) <= len(was):
        executable.write_bytes(executable.read_bytes().replace(was, wanted.ljust(len(was), b"\0")))
