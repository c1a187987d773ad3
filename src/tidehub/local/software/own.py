"""tidehub itself, installed from a checkout as any package is.

What it depends on fills a locked environment, which changes rarely and takes half a minute to make. tidehub changes
with every edit, so it gets a small environment of its own on top: `tidehub/KEY-py311` holds the package with its
metadata and compiled files, and one path file that adds the locked packages. Its name is the digest of the source, so
a changed checkout is another directory within milliseconds, and what runs keeps the one that it started from.

`./tidehub` passes here at every start: only what is needed then is imported at the top.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tidehub.errors import TidehubError
from tidehub.local.software.layout import (
    OPEN_DIRECTORY,
    OPEN_FILE,
    default_root,
    digest,
    is_complete,
    ours,
    runs,
)
from tidehub.program import CHECKOUT

if TYPE_CHECKING:
    from tidehub.local.software.progress import Progress

PACKAGE = Path(__file__).resolve().parents[2]
"""The package that is running."""

_KEPT = 12
"""Older versions that stay, beside those that run: a change taken back, or another checkout, starts at once."""
_IN_USE = "in-use-"


def source_files(package: Path) -> dict[str, bytes]:
    """The package's files by their path below it, in a fixed order, without compiled and hidden ones."""
    found: dict[str, bytes] = {}
    waiting = [""]
    while waiting:
        below = waiting.pop()
        with os.scandir(f"{package}/{below}") as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
        for entry in ordered:
            if entry.name == "__pycache__" or entry.name.startswith("."):
                continue
            if entry.is_dir():
                waiting.append(f"{below}{entry.name}/")
            else:
                with open(entry.path, "rb", buffering=0) as stream:  # noqa: PTH123  # quicker, for 500 files
                    found[f"{below}{entry.name}"] = stream.read()
    return found


def source_digest() -> str:
    """The name of the running package's source: another one after every edit, wherever it lies."""
    files = source_files(PACKAGE)
    return digest(*(part for name, content in files.items() for part in (os.fsencode(name), content)))


def root_for(root: Path) -> Path:
    """Where this user's tidehub goes: the software root, or one of the user's own where that is somebody else's."""
    if not root.exists() or ours(root):
        return root
    return default_root({key: value for key, value in os.environ.items() if key != "TIDEHUB_SOFTWARE"})


def installed(root: Path, package: Path, environment: Path, progress: Progress | None = None) -> Path:
    """The Python of an environment with `package` on top of the locked `environment`; made when there is none.
    `progress` is told of that, where somebody has waited for a set-up already: every later time it takes a moment.

    Its lock is held until this process, and what it becomes, ends. Raises `TidehubError` when it cannot be made.
    """
    files = source_files(package)
    names = [part for name, content in files.items() for part in (os.fsencode(name), content)]
    key = digest(os.fsencode(environment), *names)
    directory = root / package.name / f"{key}-{environment.name.rpartition('-')[2]}"
    _hold(root, directory)  # before the look at it: another start may be clearing away
    if not (is_complete(directory) and runs(directory) and _whole(directory)):
        if progress:
            progress.step(f"Compiling the bytecode of {package.name} itself")
        _install(root, directory, package, files, environment)
    return directory / "bin" / "python"


def _whole(directory: Path) -> bool:
    from tidehub.local.software import directories

    return directories.damage_of(directory) is None


def _hold(root: Path, directory: Path) -> None:
    """Keep this version from being cleared away; the lock passes through exec, not to other programs.

    Where nothing can be written it goes without: a full disk must not keep `tidehub down` from running.
    """
    import fcntl

    from tidehub.local.software import directories

    with contextlib.suppress(OSError):
        descriptor = directories.open_lock(root, f"{_IN_USE}{directory.name}")
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        os.set_inheritable(descriptor, True)


def _install(
    root: Path, directory: Path, package: Path, files: Mapping[str, bytes], environment: Path
) -> None:
    from tidehub.local.software import directories
    from tidehub.local.software.progress import Silent

    def build(target: Path) -> dict[str, str]:
        _make_environment(target, environment)
        (site,) = (environment / "lib").glob("python3.*")
        place = directories.make_folder(target / "lib" / site.name / "site-packages")
        _write(
            place / f"{package.name}-dependencies.pth",
            f"import site; site.addsitedir({str(site / 'site-packages')!r})\n".encode(),
        )
        _write_package(place / package.name, files, _earlier(directory, site.name, package.name))
        _write_metadata(place, package, files)
        return {"dependencies": str(environment)}

    directories.build_once(root, directory, build, progress=Silent(), usable=runs)
    _clear(root, directory)


def _make_environment(target: Path, environment: Path) -> None:
    """A virtual environment as PEP 405 describes it, on the interpreter of `environment`, with its programs."""
    from tidehub.local.software import directories

    programs = directories.make_folder(target / "bin")
    _write(target / "pyvenv.cfg", (environment / "pyvenv.cfg").read_bytes())
    for program in sorted((environment / "bin").iterdir()):
        if program.name.startswith("python"):
            (programs / program.name).symlink_to(program.readlink())
        elif not program.name.lower().startswith(("activate", "deactivate")):
            (programs / program.name).symlink_to(program)
    own = '#!/bin/sh\nexec "$(dirname "$(readlink -f "$0")")/python" -I -m tidehub "$@"\n'
    (programs / "tidehub").unlink(missing_ok=True)
    _write(programs / "tidehub", own.encode(), 0o755)


def _write(path: Path, content: bytes, mode: int = OPEN_FILE) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        os.fchmod(stream.fileno(), mode)


def _compiled(path: str) -> str:
    from importlib.util import cache_from_source

    return cache_from_source(path)


def _write_package(place: Path, files: Mapping[str, bytes], earlier: Path | None) -> None:
    """Write and compile the files; what has not changed since `earlier` is linked with its compiled file.

    Compiled files are unchecked ones (PEP 552): nothing here changes, and a link has the time of its first name.
    """
    import py_compile

    from tidehub.local.software import directories

    for folder in sorted({os.path.dirname(name) for name in files}):  # noqa: PTH120
        directories.make_folder(place / folder / "__pycache__")
    for name, content in files.items():
        path = f"{place}/{name}"
        compiled = _compiled(path) if name.endswith(".py") else None
        if earlier is not None and _linked(f"{earlier}/{name}", path, content, compiled):
            continue
        _write(Path(path), content)
        if compiled:
            py_compile.compile(
                path, compiled, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
            )
            Path(compiled).chmod(OPEN_FILE)


def _linked(old: str, new: str, content: bytes, compiled: str | None) -> bool:
    try:
        if Path(old).read_bytes() != content:
            return False
        os.link(old, new)
    except OSError:
        return False
    if compiled:
        try:
            os.link(_compiled(old), compiled)
        except OSError:
            Path(new).unlink()
            return False
    return True


def _write_metadata(place: Path, package: Path, files: Mapping[str, bytes]) -> None:
    """What importlib.metadata and pip look for; see "Recording installed projects" of the packaging specifications."""
    import base64
    import re

    version = re.search(rb'^__version__ = "([^"]+)"', files["__init__.py"], re.M)
    number = version[1].decode() if version else "0"
    info = place / f"{package.name}-{number}.dist-info"
    info.mkdir(mode=OPEN_DIRECTORY)
    _write(info / "METADATA", f"Metadata-Version: 2.1\nName: {package.name}\nVersion: {number}\n".encode())
    _write(info / "INSTALLER", b"tidehub\n")
    _write(info / "entry_points.txt", b"[console_scripts]\ntidehub = tidehub.cli.main:main\n")
    lines = []
    for name, content in files.items():
        checksum = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f'"{package.name}/{name}",sha256={checksum},{len(content)}')
    lines += [f"{info.name}/{name},," for name in ("METADATA", "INSTALLER", "entry_points.txt", "RECORD")]
    _write(info / "RECORD", ("\n".join(lines) + "\n").encode())


def _versions(directory: Path) -> list[Path]:
    """The other complete versions beside `directory`, newest first."""
    found = [entry for entry in directory.parent.iterdir() if entry != directory and is_complete(entry)]
    return sorted(found, key=lambda entry: entry.stat().st_mtime, reverse=True)


def _earlier(directory: Path, python: str, name: str) -> Path | None:
    """The package of the newest other version for the same Python, whose files are whole."""
    from tidehub.local.software import directories

    for other in _versions(directory):
        place = other / "lib" / python / "site-packages" / name
        if place.is_dir() and directories.damage(other, thoroughly=True) is None:
            return place
    return None


def _clear(root: Path, directory: Path) -> None:
    """Remove old versions that nothing runs from."""
    import fcntl

    from tidehub.local.software import directories

    for other in _versions(directory)[_KEPT:]:
        descriptor = directories.open_lock(root, f"{_IN_USE}{other.name}")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            directories.remove(other)
        finally:
            os.close(descriptor)


def checkout_program() -> Path | None:
    """The program of the checkout that started this process; None where there is none, or it cannot be run any more."""
    program = Path(os.environ.get(CHECKOUT, "/nonexistent")) / "tidehub"
    return program if os.access(program, os.X_OK) else None


def dependencies() -> Path | None:
    """The locked environment below this process' own; None where tidehub was not installed from a checkout by us."""
    from tidehub.local.software import directories

    found = directories.facts(Path(sys.prefix)).get("dependencies")
    return None if found is None else Path(found)


def damaged(error: Exception) -> TidehubError:
    """What to say when tidehub's own modules, or what they depend on, cannot be imported.

    The locked environment below this one is then read through before it is used again.
    """
    from tidehub.local.software import directories

    what = f"tidehub's own software is damaged or incomplete: {type(error).__name__}: {error}"
    below = dependencies()
    if below is None:
        return TidehubError(what, fix=f"install tidehub again, with its dependencies, for {sys.executable}")
    directories.suspect(below)
    return TidehubError(what, fix="run ./tidehub again: it checks every file and replaces what is damaged")


def check_startable(uid: int | None, software: Path) -> None:
    """Raise `TidehubError` unless a process of `uid` (None: this user) can run what parts of the platform run: this
    Python, with the tidehub that is installed for it, and what lies below `software`.
    """
    from tidehub.local import process

    question = "import os, sys, tidehub; os.stat(sys.argv[1])"
    try:
        process.run(
            [sys.executable, "-I", "-c", question, software / "profiles" / "default"],
            env={},
            cwd=Path("/"),
            deadline=60,
            uid=uid,
            gid=uid,
        )
    except process.ProgramFailed as error:
        if uid is None:
            raise TidehubError(
                f"{sys.executable} cannot run the parts of the platform: {error}",
                expected="tidehub installed for this Python",
                fix="start it with ./tidehub, or install it with: pip install tidehub",
            ) from error
        refuse_closed(software)
        raise _not_startable(str(error), _ELSEWHERE) from error


def refuse_closed(software: Path, *, itself: bool = True) -> None:
    """As root, raise `TidehubError` where other users, as whom services and users' servers run, cannot reach what lies
    below `software`, which may not be there yet, or (`itself`) this Python and its tidehub.
    """
    from tidehub.local.software.interpreter import closed_to_others

    if os.geteuid() != 0:
        return
    ours = (Path(sys.executable), PACKAGE / "__init__.py") if itself else ()
    for place in (*ours, software):
        closed = closed_to_others(place)
        if closed is None:
            continue
        fix = f"{_ELSEWHERE}; or open the place with: chmod -R go+rX {shlex.quote(str(closed))}"
        if software.is_relative_to(closed):
            # The modes of what tidehub brought itself are right: only the way to it is closed, and what else lies there
            # stays closed.
            fix = (
                f"open the way with: chmod go+rx {shlex.quote(str(closed))}; "
                "or set TIDEHUB_SOFTWARE to a directory below /opt"
            )
        raise _not_startable(f"{closed} is closed to other users", fix)


_ELSEWHERE = (
    "install tidehub in another place, such as below /opt, or start it with ./tidehub; for the software set "
    "TIDEHUB_SOFTWARE=DIR"
)


def _not_startable(why: str, fix: str) -> TidehubError:
    return TidehubError(
        f"services of the platform, which do not run as root, cannot use its software: {why}",
        expected="tidehub and its software where every user can read them: services never run as root instead",
        fix=fix,
    )
