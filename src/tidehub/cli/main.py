"""The `tidehub` command: which commands there are, and how their errors reach a user."""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, NoReturn

import typer
from typer.exceptions import Abort, TyperException

from tidehub import __version__
from tidehub.cli.console import flush, lost, print_lines
from tidehub.cli.failure import tell, wants_json
from tidehub.cli.lazy import SETTINGS, LazyGroup
from tidehub.errors import FAILED, INTERRUPTED, TidehubError, UsageError
from tidehub.program import COMPLETES, command


class _Commands(LazyGroup):
    """Every command below its task, in the order in which it is needed: `module:function`, or `module:app` for one with
    subcommands."""

    homes: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "Run a platform on this machine": {
            "up": "tidehub.cli.up:up",
            "status": "tidehub.cli.status:status",
            "check": "tidehub.cli.check:check",
            "logs": "tidehub.cli.logs:logs",
            "reload": "tidehub.cli.up:reload",
            "down": "tidehub.cli.down:down",
            "service": "tidehub.cli.service:app",
        },
        "Describe a site": {
            "init": "tidehub.cli.init:init",
            "validate": "tidehub.cli.validate:validate",
            "explain": "tidehub.cli.explain:explain",
            "secrets": "tidehub.cli.secrets:app",
            "explain-login": "tidehub.cli.explain_login:explain_login",
            "limits": "tidehub.cli.limits:limits",
            "import": "tidehub.cli.import_values:import_values",
            "schema": "tidehub.cli.schema:schema",
        },
        "Deploy it on Kubernetes": {
            "preflight": "tidehub.cli.preflight:preflight",
            "plan": "tidehub.cli.plan:plan",
            "deploy": "tidehub.cli.deploy:deploy",
            "upgrade": "tidehub.cli.upgrade:upgrade",
            "rollback": "tidehub.cli.rollback:rollback",
            "render": "tidehub.cli.render:render",
            "uninstall": "tidehub.cli.uninstall:uninstall",
        },
        "Keep what users have": {
            "homes": "tidehub.cli.homes:homes",
            "backup": "tidehub.cli.backup:backup",
            "restore": "tidehub.cli.restore:restore",
        },
        "Your shell": {
            "completion": "tidehub.cli.completion:completion",
        },
    }


app = typer.Typer(
    name="tidehub",
    cls=_Commands,
    help="JupyterHub and Dask Gateway for a research community, from one site file.",
    no_args_is_help=True,
    **SETTINGS,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print_lines([f"tidehub {__version__}"])
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    return


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    # Importing makes many objects that stay: looking through them again and again costs a sixth of a quick command.
    gc.set_threshold(50_000, 20, 100)
    sys.exit(_written(run(argv)))


def _written(code: int) -> int:
    """The exit code, once what was printed has left: a file that lacks the end of it is not done."""
    if sys.stdout is not None:
        flush(sys.stdout)
    error = lost()
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        print_lines([f"tidehub: standard output cannot be written: {error.strerror}"], sys.stderr)
        return code or FAILED
    return code


def run(argv: Sequence[str] | None = None) -> int:
    """The exit code of one command; what it has to say is printed."""
    words = sys.argv[1:] if argv is None else list(argv)
    as_json = wants_json(words)
    try:
        # Blocked by `bootstrap/enter.py`, so that Ctrl-C while Python and we are imported is words, too.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
        if COMPLETES in os.environ:
            from tidehub.cli.completion import prepare

            prepare()
        code = app(args=words, prog_name="tidehub", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except TidehubError as error:
        tell(error, as_json=as_json)
        return error.exit_code
    except (ImportError, SyntaxError, EOFError) as error:
        from tidehub.local.software.own import damaged

        tell(damaged(error), as_json=as_json)
        return FAILED
    except SystemExit as end:
        # typer ends so whatever raised BrokenPipeError, also without `standalone_mode`, and replaces the streams by
        # wrappers: most often the reader of a help page has gone away.
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        if sys.stdout is not None:
            flush(sys.stdout)
        if lost() is not None:
            return 0
        if COMPLETES in os.environ:
            return end.code if isinstance(end.code, int) else 0
        tell(TidehubError("the connection was closed by the other side"), as_json=as_json)
        return FAILED
    except OSError as error:
        # Click prints the help, and lets a failure of standard output pass; what it could not write is still there.
        if sys.stdout is not None:
            flush(sys.stdout)
        if lost() is not None:
            return 0
        if error.filename is None:
            raise
        from tidehub.system.files import os_fault

        tell(os_fault(error, Path(os.fsdecode(error.filename)), "use"), as_json=as_json)
        return FAILED
    except (KeyboardInterrupt, Abort):
        if as_json:
            tell(TidehubError("interrupted"), as_json=True)
        else:
            print_lines(["Interrupted."], sys.stderr)
        return INTERRUPTED
    except TyperException as error:
        if isinstance(message := getattr(error, "message", None), str):
            vars(error)["message"] = _plain(message)
        show = getattr(error, "show", None)
        if as_json or show is None:
            asked = getattr(getattr(error, "ctx", None), "command_path", "tidehub").split()[1:]
            tell(UsageError(error.format_message(), fix=f"see: {command(*asked, '--help')}"), as_json=as_json)
        else:
            show()
        return error.exit_code


_PLAIN = (
    (r"Input should be a valid integer.*", "expected a whole number"),
    (r"Input should be a valid number.*", "expected a number"),
    (r"Input should be less than or equal to (\S+)", r"expected at most \1"),
    (r"Input should be greater than or equal to (\S+)", r"expected at least \1"),
    (r"Value error, ", ""),
)


def _plain(message: str) -> str:
    """What typer hands on from pydantic about the value of an option, in words about that value."""
    for pattern, words in _PLAIN:
        message = re.sub(pattern, words, message)
    return message
