"""`tidehub down`: stop the platform on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tidehub.cli.console import make_say, print_lines
from tidehub.cli.options import State

if TYPE_CHECKING:
    from tidehub.local.places import Places


def down(
    state: State = None,
    now: Annotated[bool, typer.Option("--now", help="Kill instead of waiting for users' processes.")] = False,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep",
            help="Stop the parts alone: users' servers and clusters go on, and the next `up` takes them over.",
        ),
    ] = False,
) -> None:
    """Stop the platform; files, accounts and databases stay.

    Users' servers and clusters end first, then its parts.
    """
    from tidehub.errors import UsageError
    from tidehub.local.places import Places
    from tidehub.local.supervisor.status import anything_to_stop
    from tidehub.local.supervisor.stopping import leave_platform, stop_platform

    if keep and now:
        raise UsageError("--keep and --now contradict each other", fix="leave one of them out")
    places = Places.of(state)
    ran = anything_to_stop(places)
    say = make_say()
    tell = say.step if ran else say.note
    try:
        code = leave_platform(places, tell) if keep else stop_platform(places, tell, now=now)
    finally:
        say.rest()
    if keep and ran:
        print_lines(_kept(places))
    elif ran and (code == 0 or now):
        print_lines(
            [
                "Killed. What stays:" if code else "Stopped. What stays:",
                f"  files of users   {places.homes}",
                f"  databases        {places.private}",
                f"  logs             {places.logs}",
            ]
        )
    if now:  # killing is what was asked for; what cannot be killed is an error
        raise typer.Exit(0)
    if ran and code != 0:
        print_lines([f"Stopped, but not everything ended by itself: see {places.supervisor_log}"])
    raise typer.Exit(code)


def _kept(places: Places) -> list[str]:
    from tidehub.local.places import command
    from tidehub.local.supervisor.status import platform_status

    if platform_status(places)["state"] == "stopped":
        return ["The parts are stopped. No servers or clusters ran."]
    return [
        "The parts are stopped; users' servers and clusters go on. Until the next start nobody reaches them, Dask",
        "clients lose their connection, and a program that prints more than 1 MiB waits.",
        f"Start again, which takes them over, with its options: {command(places.state, 'up')}",
        f"End them all: {command(places.state, 'down')}",
    ]
