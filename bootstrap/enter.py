"""The first step of `./tidehub` and `./test`: makes a locked environment if it is missing, then becomes a
program in it.

    enter.py control ARGUMENTS      python -m tidehub ARGUMENTS, in the control environment
    enter.py test ARGUMENTS         tools/run_tests.py ARGUMENTS, in the test environment

Run by the system's Python with `-I -S`: only the standard library is there. Where all is complete it costs
some 20 ms, so what only a set-up needs is imported only then.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

CHECKOUT = Path(__file__).resolve().parent.parent
SOURCE = CHECKOUT / "src"
sys.path.insert(0, str(SOURCE))

from tidehub.errors import INTERRUPTED, TidehubError  # noqa: E402
from tidehub.local.software import layout  # noqa: E402
from tidehub.release_sets import release  # noqa: E402


def enter(kind: str, arguments: list[str]) -> NoReturn:
    """Become the program, or end with the reason why its environment could not be made."""
    try:
        root = layout.default_root()
        lock = release().directory / f"{kind}.txt"
        python = layout.existing_python(root / kind, layout.digest(lock.read_bytes())) or set_up(
            root, kind, lock
        )
        code = str(readable_source(root) if os.geteuid() == 0 and kind == "control" else SOURCE)
    except TidehubError as error:
        print(f"tidehub: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("\ntidehub: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(INTERRUPTED)
    program = ["-m", "tidehub"] if kind == "control" else [str(CHECKOUT / "tools" / "run_tests.py")]
    environ = dict(os.environ)
    environ["PYTHONPATH"] = code
    environ["PYTHONSAFEPATH"] = "1"  # files of the directory where the person stands are no modules of ours
    os.execve(python, [str(python), *program, *arguments], environ)


def set_up(root: Path, kind: str, lock: Path) -> Path:
    """Make the environment `kind` from `lock` and return its Python. Raises `TidehubError`."""
    from tidehub.local.software import directories, environments, installer, interpreter, progress

    shown = progress.for_stream()
    try:
        directories.prepare_root(root)
        python = interpreter.choose(root, everyone=os.geteuid() == 0, progress=shown)
        (pip,) = (CHECKOUT / "bootstrap").glob("pip-*.whl")
        control = lock.with_name("control.txt")
        uv = installer.fetched(root, control, pip, python.executable, shown)
        wish = environments.Wish(f"the {kind} environment", lock)
        made = environments.install(root, root / kind, wish, installer.Installer(uv, root, shown), python)
    finally:
        shown.done()
    return made.python


def readable_source(root: Path) -> Path:
    """The folder that holds the package, or a copy of it, where every uid can read it."""
    from tidehub.local.software import own

    return own.readable_package(root, SOURCE / "tidehub")


if __name__ == "__main__":
    enter(sys.argv[1], sys.argv[2:])
