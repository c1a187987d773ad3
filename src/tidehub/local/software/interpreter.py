"""Which Python the environments stand on.

An environment only links to its interpreter. As root the notebooks run under other uids, so the interpreter
must be one that every uid can reach: a Python below somebody's 0700 home is not. Only the standard library:
the first set-up uses it.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.local import process

OLDEST = (3, 11)
NEWEST = (3, 14)
NOBODY = 65534
INSTALL = "install python3; on Debian 12, Ubuntu 24.04 or newer run: apt-get install python3"

_NEEDED = ("bz2", "ctypes", "lzma", "sqlite3", "ssl", "zlib")
_QUESTION = f"""
import importlib, json, os, sys
lacks = []
for name in {_NEEDED!r}:
    try:
        importlib.import_module(name)
    except ImportError:
        lacks.append(name)
print(json.dumps(dict(
    version=list(sys.version_info[:3]),
    executable=os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable),
    stdlib=os.path.realpath(os.path.dirname(os.__file__)),
    lacks=lacks,
)))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python on this machine: its real executable, not a link or a virtual environment."""

    executable: Path
    version: tuple[int, int, int]
    stdlib: Path

    @property
    def tag(self) -> str:
        """Short name for directories, for example `py311`."""
        return f"py{self.version[0]}{self.version[1]}"

    @property
    def parts(self) -> tuple[Path, ...]:
        """Everything on disk that must be there for it to start."""
        return (self.executable, self.stdlib / "os.py")


class Unsuitable(Exception):
    """Why one candidate is not used; the text is for the list that a user reads."""


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
        stdlib=Path(told["stdlib"]),
    )


def closed_to_others(path: Path) -> Path | None:
    """The first file or directory on the way to `path` that other users may not enter or read; None if they may, as far
    as it is there.

    Both ways count for a link, as an environment's `python` is one: to where it stands and to what it names.
    """
    real = Path(os.path.realpath(path))
    for place in dict.fromkeys([*reversed(path.absolute().parents), *reversed(real.parents), real]):
        try:
            mode = place.stat().st_mode
        except FileNotFoundError:
            return None
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


def choose(*, everyone: bool, tried: Iterable[Path] | None = None) -> Interpreter:
    """The Python for new environments; with `everyone` one that every uid can run.

    Raises `TidehubError` with every candidate and why it was refused when there is none.
    """
    refused: list[str] = []
    for path in candidates() if tried is None else tried:
        try:
            found = examine(path)
            if everyone:
                reachable_by_everyone(found)
        except Unsuitable as error:
            refused.append(f"{path} {error}")
        else:
            return found
    listed = "; ".join(refused) or "none was found"
    raise TidehubError(
        f"No suitable Python on this machine: {listed}",
        expected=f"Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
        + (", where every user of this machine can run it" if everyone else ""),
        fix=INSTALL,
    )
