"""`tidehub logs`: what the parts, people's servers and clusters wrote."""

from __future__ import annotations

from typing import Annotated

import typer

from tidehub.cli.console import print_lines
from tidehub.cli.options import State


def logs(
    part: Annotated[
        str | None,
        typer.Argument(
            metavar="[PART]", help="hub, proxy, ..., servers/NAME, clusters/NAME; without: all parts."
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as the logs grow.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many last lines of each.")] = 20,
    state: State = None,
) -> None:
    """Show logs. Secrets of the platform are not in them."""
    from tidehub.local import logs as reading
    from tidehub.local.places import Places

    places = Places.of(state)
    chosen = reading.choose(places, part)
    hide = reading.redactor(places)
    several = len(chosen) > 1

    def shown(name: str, line: bytes) -> str:
        text = hide(line).decode(errors="replace")
        return f"{name} | {text}" if several else text

    for name, path in chosen.items():
        print_lines(shown(name, line) for line in reading.last_lines(path, lines))
    if follow:
        for name, line in reading.follow(chosen):
            print_lines([shown(name, line)])
