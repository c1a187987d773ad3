"""`tidehub down`: stop the platform on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidehub.cli.answers import print_json
from tidehub.cli.console import make_say, print_lines
from tidehub.cli.options import State, json_of

if TYPE_CHECKING:
    from tidehub.local.places import Places


def down(
    state: State = None,
    now: Annotated[bool, typer.Option("--now", help="Kill instead of waiting for users' processes.")] = False,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep",
            help="Stop only the parts: users' servers and clusters keep running, and the next `up` takes them over.",
        ),
    ] = False,
    as_json: Annotated[bool, json_of("what ran, what was ended, what keeps running, what stays")] = False,
) -> None:
    """Stop the platform; files, accounts and databases stay.

    Users' servers and clusters end first, then its parts.
    """
    from tidehub.errors import UsageError
    from tidehub.local.places import Places
    from tidehub.local.supervisor.status import anything_to_stop, platform_status
    from tidehub.local.supervisor.stopping import leave_platform, stop_platform

    if keep and now:
        raise UsageError("--keep and --now contradict each other", fix="leave one of them out")
    places = Places.of(state)
    ran = anything_to_stop(places)
    before = platform_status(places) if as_json else {}
    say = make_say()
    tell = say.step if ran else say.note
    try:
        code = leave_platform(places, tell) if keep else stop_platform(places, tell, now=now)
    finally:
        say.rest()
    if as_json:
        facts = _facts(places, before, platform_status(places), clean=code == 0)
        code = 0 if now else code
        print_json(facts, code=code)
        raise typer.Exit(code)
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


def _facts(
    places: Places, before: Mapping[str, object], after: Mapping[str, object], *, clean: bool
) -> dict[str, Any]:
    """For `--json`: what ran (null where nobody could say), what of it keeps running, and what stays on the disk."""

    def names(kind: str, key: str) -> list[str] | None:
        rows = before.get(kind)
        return [str(row[key]) for row in rows] if isinstance(rows, list) else None

    users = {kind: names(kind, "id") for kind in ("servers", "clusters")}
    keeps_running = after["state"] == "kept"
    parts = names("parts", "name")
    return {
        "state": str(places.state),
        "before": before["state"],
        "after": after["state"],
        "clean": clean,
        "ended": {"parts": parts, **({} if keeps_running else users)},
        "keeps_running": users if keeps_running else {},
        "stays": {
            "files": str(places.homes),
            "databases": str(places.private),
            "logs": str(places.logs),
        }
        if places.exists
        else {},
    }


def _kept(places: Places) -> list[str]:
    from tidehub.local.places import command
    from tidehub.local.supervisor.last_up import last_options, up_again
    from tidehub.local.supervisor.status import platform_status

    if platform_status(places)["state"] == "stopped":
        return ["The parts are stopped. No servers or clusters ran."]
    return [
        "The parts are stopped; users' servers and clusters keep running. Until the next start nobody can reach them,",
        "Dask clients lose their connection, and a program that prints more than 1 MiB waits.",
        f"Start again, which takes them over: {up_again(places, last_options(places))}",
        f"End them all: {command(places.state, 'down')}",
    ]
