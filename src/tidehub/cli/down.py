"""`tidehub down`: stop the platform on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from tidehub.cli.console import make_say, print_lines
from tidehub.cli.options import State


def down(
    state: State = None,
    now: Annotated[
        bool, typer.Option("--now", help="Kill instead of waiting for people's processes.")
    ] = False,
) -> None:
    """Stop the platform: people's servers and clusters, then its parts. Files, accounts and databases stay."""
    from tidehub.local.places import Places
    from tidehub.local.supervisor.client import anything_to_stop, stop_platform

    places = Places.of(state)
    ran = anything_to_stop(places)
    say = make_say()
    try:
        code = stop_platform(places, say.step if ran else say.note, now=now)
    finally:
        say.rest()
    if ran and code == 0:
        print_lines(
            [
                "Stopped. What stays:",
                f"  files of people  {places.homes}",
                f"  databases        {places.private}",
                f"  logs             {places.logs}",
            ]
        )
    elif ran:
        print_lines([f"Stopped, but not everything ended by itself: see {places.supervisor_log}"])
    raise typer.Exit(code)
