"""The `tidehub` command: which commands there are, and how their errors reach a person."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.exceptions import Abort, TyperException

from tidehub import __version__
from tidehub.cli import check, down, logs, status, up
from tidehub.cli.console import print_lines
from tidehub.errors import INTERRUPTED, TidehubError

app = typer.Typer(
    name="tidehub",
    help="JupyterHub and Dask Gateway for a research community, from one site file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(up.up)
app.command()(status.status)
app.command()(logs.logs)
app.command()(down.down)
app.command()(check.check)


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
    sys.exit(run(argv))


def run(argv: Sequence[str] | None = None) -> int:
    """The exit code of one command; what it has to say is printed."""
    try:
        code = app(args=None if argv is None else list(argv), standalone_mode=False)
        return code if isinstance(code, int) else 0
    except TidehubError as error:
        print_lines([f"tidehub: {error}"], sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, Abort):
        print_lines(["Interrupted."], sys.stderr)
        return INTERRUPTED
    except TyperException as error:
        show = getattr(error, "show", None)
        if show is not None:
            show()
        else:
            print_lines([f"tidehub: {error.format_message()}"], sys.stderr)
        return error.exit_code
