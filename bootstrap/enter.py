"""The first step of `./tidehub` and `./test`: makes a locked environment if it is missing, installs this checkout's
tidehub on top of it if that has changed, then becomes a program in it.

    enter.py control ARGUMENTS      python -m tidehub ARGUMENTS, on the control environment
    enter.py test ARGUMENTS         tools/run_tests.py ARGUMENTS, on the test environment

Run by the system's Python with `-I -S`: only the standard library is there. Where all is complete it costs
some 50 ms, so what only a set-up needs is imported only then.
"""

from __future__ import annotations

import os
import signal
import sys

# Ctrl-C waits until somebody can answer it in words: a traceback of an import is none.
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))

from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, NoReturn  # noqa: E402

CHECKOUT = Path(__file__).resolve().parent.parent
SOURCE = CHECKOUT / "src"
sys.path.insert(0, str(SOURCE))

from tidehub import program  # noqa: E402
from tidehub.errors import FAILED, INTERRUPTED, TidehubError  # noqa: E402
from tidehub.local.software import layout, own  # noqa: E402
from tidehub.release_sets import release  # noqa: E402

if TYPE_CHECKING:
    from tidehub.local.software.progress import Progress


def enter(kind: str, arguments: list[str]) -> NoReturn:
    """Become the program, or end with the reason why its environment could not be made."""
    # Checkouts of the same version share the environment, which so cannot know by whose program it was entered.
    os.environ[program.CHECKOUT] = str(CHECKOUT)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
        root = layout.default_root()
        lock = release().directory / f"{kind}.txt"
        locked = complete(root, kind, lock, arguments)
        if locked is None and program.COMPLETES in os.environ:
            sys.exit(FAILED)  # nobody waits for a set-up at a Tab
        shown = None
        if locked is None:
            if arguments[:1] == ["up"] and kind == "control":
                from tidehub.local import early

                early.refuse(arguments[1:])
            from tidehub.local.software import progress

            shown = progress.on_standard_error()
            locked = set_up(root, kind, lock, shown)
        try:
            python = own.installed(own.root_for(root), SOURCE / "tidehub", locked, shown)
        finally:
            if shown:
                shown.done()
        if kind == "control":
            # Until `tidehub.cli.main` runs, which takes it back.
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    except TidehubError as error:
        end(error, error.exit_code, arguments)
    except OSError as error:
        end(
            TidehubError(
                f"the software in {root} cannot be used: {error}",
                fix="give this user access to it, or name another directory: TIDEHUB_SOFTWARE=DIR",
            ),
            FAILED,
            arguments,
        )
    except KeyboardInterrupt:
        print(file=sys.stderr)
        end(TidehubError("interrupted", fix="the same command goes on from here"), INTERRUPTED, arguments)
    entered = ["-m", "tidehub"] if kind == "control" else [str(CHECKOUT / "tools" / "run_tests.py")]
    # Isolated: neither the directory where the person stands nor their PYTHONPATH holds modules of ours.
    os.execv(python, [str(python), "-I", *entered, *arguments])


def end(error: TidehubError, code: int, arguments: list[str]) -> NoReturn:
    """Say what went wrong as the program would: with `--json` as one object."""
    from tidehub.cli.failure import tell, wants_json

    tell(error, as_json=wants_json(arguments))
    sys.exit(code)


def complete(root: Path, kind: str, lock: Path, arguments: list[str]) -> Path | None:
    """The directory of the environment `kind`, if it can be entered as it stands.

    After every start of the machine, and before every `up`, its files are compared with what was installed: a power
    cut may have emptied them. Modes that a narrow umask left are looked at each time.
    """
    python = layout.existing_python(root / kind, layout.digest(lock.read_bytes()))
    if python is None:
        return None
    directory = python.parent.parent
    if not layout.ours(directory):
        return directory  # another user's, who alone can mend it
    looked = layout.checked_in(directory) == layout.this_boot() and arguments[:1] != ["up"]
    if looked and layout.open_to_all((root, root / kind, directory, python.parent, directory / "lib")):
        return directory
    from tidehub.local.software import directories

    return directory if directories.damage_of(directory) is None else None


def set_up(root: Path, kind: str, lock: Path, shown: Progress) -> Path:
    """Make the environment `kind` from `lock` and return its directory. Raises `TidehubError`."""
    from tidehub.local.software import directories, installer, interpreter, software

    try:
        directories.prepare_root(root)
        python = interpreter.choose(everyone=os.geteuid() == 0)
        (pip,) = (CHECKOUT / "bootstrap").glob("pip-*.whl")
        control = lock.with_name("control.txt")
        spec = software.EnvironmentSpec(f"the {kind} environment", lock)
        # Beside those of the environment: the installer, and tidehub itself.
        shown.expect(spec.steps + 1 + (not installer.is_fetched(root, control)))
        uv = installer.fetched(root, control, pip, python.executable, shown)
        made = software.install_environment(
            root, root / kind, spec, installer.Installer(uv, root, shown), python
        )
    except BaseException:
        shown.done()
        raise
    return made.root


if __name__ == "__main__":
    enter(sys.argv[1], sys.argv[2:])
