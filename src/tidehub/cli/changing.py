"""What the commands that change a cluster have in common: options, how they end, what they print."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidehub.cli.answers import print_json
from tidehub.cli.console import ConsoleSay, make_say, print_lines
from tidehub.cli.failure import failure_json
from tidehub.errors import TidehubError

if TYPE_CHECKING:
    from tidehub.kubernetes.deploying.running import Options, Result
    from tidehub.kubernetes.deploying.words import Commands

DEFAULT_TIMEOUT = 900

Timeout = Annotated[
    int,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=1,
        help="How long the pods of one release, or what Helm waits for, may take.",
    ),
]
Adopt = Annotated[
    list[str] | None,
    typer.Option(
        "--adopt",
        metavar="NAME",
        help="Take over a release, CRD or object (KIND/NAME) made by others. Can be given more than once.",
    ),
]
NoBackup = Annotated[
    bool, typer.Option("--no-backup", help="Change what is there without copying it away first.")
]
NoCheck = Annotated[bool, typer.Option("--no-check", help="Do not check the public address at the end.")]


def options(
    timeout: int = DEFAULT_TIMEOUT,
    adopt: Sequence[str] | None = None,
    *,
    no_backup: bool = False,
    no_check: bool = False,
) -> Options:
    """What was chosen on the command line."""
    from tidehub.kubernetes.deploying.running import Options

    return Options(timeout=timeout, adopt=frozenset(adopt or ()), save=not no_backup, check=not no_check)


def commands(
    operation: str, file: Path | None, kubeconfig: Path | None, context: str | None, *more: str
) -> Commands:
    """How this was called, for the command that goes on or back. `more` are options of this operation alone."""
    from tidehub.kubernetes.deploying.words import Commands

    common = [str(file)] if file else []
    common += ["--kubeconfig", str(kubeconfig)] if kubeconfig else []
    common += ["--context", context] if context else []
    return Commands(operation, (*common, *more), tuple(common))


def switched(**flags: bool) -> list[str]:
    """Flags as they were typed: `no_check=True` is `--no-check`."""
    return [f"--{name.replace('_', '-')}" for name, on in flags.items() if on]


def given(name: str, values: Sequence[str] | None) -> list[str]:
    """An option as it was typed, once for each value."""
    return [part for value in values or () for part in (name, value)]


@contextmanager
def changing(as_json: bool) -> Iterator[ConsoleSay]:
    """Something to say progress with. A foreseen fault is printed as JSON where that was asked for.

    A request to end (SIGTERM), and a terminal that goes away, are taken as Ctrl-C: the state is written down.
    """
    from tidehub.kubernetes.deploying import ending

    say = make_say()
    ending.forget()
    # What is ignored stays ignored: `nohup tidehub deploy` outlives its terminal.
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    wanted = [one for one in signals if signal.getsignal(one) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _interrupt) for number in wanted}
    try:
        yield say
    except TidehubError as error:
        say.rest()
        if not as_json:
            raise
        print_json(change_failure_json(error), code=error.exit_code)
        raise typer.Exit(error.exit_code) from error
    finally:
        say.rest()
        for number, handler in before.items():
            signal.signal(number, handler)


def change_failure_json(error: TidehubError) -> dict[str, Any]:
    """A fault for `--json`, with what it left behind."""
    found = failure_json(error)
    journal = getattr(error, "journal", None)
    found["state"] = getattr(error, "state", "nothing was changed")
    found["then"] = getattr(error, "command", None)
    found["evidence"] = list(getattr(error, "evidence", ()))
    found["steps"] = journal.to_json()["steps"] if journal is not None else []
    return found


def print_result(
    result: Result, as_json: bool, said: Callable[[], Sequence[str]], more: dict[str, Any] | None = None
) -> None:
    """The outcome on standard output."""
    if as_json:
        print_json(result.to_json() | (more or {}))
    else:
        print_lines([*said(), *(f"Note: {note}" for note in result.notes)])


def confirmed(
    name: str,
    what: Sequence[str],
    yes: str | None,
    *,
    kind: str = "namespace",
    does: str = "permanently deletes",
) -> None:
    """Raises `UsageError` unless the name of what this is about was typed, or given with --yes."""
    from tidehub.errors import UsageError

    if yes is not None:
        if yes != name:
            raise UsageError(f"--yes {yes} is not the {kind} that this is about", expected=f"--yes {name}")
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"this {does}: {', '.join(what)}; there is no terminal to confirm it on", expected=f"--yes {name}"
        )
    print_lines([f"This {does}: {', '.join(what)}."], sys.stderr)
    typed = typer.prompt(
        f"Type the name of the {kind} ({name}) to go on", default="", show_default=False, err=True
    )
    if typed.strip() != name:
        raise UsageError("the name does not match: nothing was changed", expected=name)


def _interrupt(number: int, frame: FrameType | None) -> None:
    from tidehub.kubernetes.deploying import ending

    # Python drops an exception that a handler raises inside a destructor or a callback of somebody's library.
    ending.ask()
    raise KeyboardInterrupt
