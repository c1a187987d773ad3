"""`tidehub restore`: a backup into a new state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tidehub.cli.console import make_say, print_lines
from tidehub.cli.options import AsJson, State


def restore(
    backup: Annotated[Path, typer.Argument(metavar="BACKUP", help="The file that `tidehub backup` wrote.")],
    state: State = None,
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Empty PostgreSQL database for the hub's data, when it is not where it was. A password belongs in "
            "a password file, not here.",
        ),
    ] = None,
    site_into: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where to put the site file and its secrets, if the backup has them."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring back what a backup holds: people, tokens, keys, files. Nothing that is there is overwritten."""
    from tidehub.backup.machine_restore import restore as restore_machine
    from tidehub.local.places import Places

    say = make_say()
    try:
        done = restore_machine(
            backup, Places.of(state), database_url=database, site_into=site_into, step=say.step
        )
    finally:
        say.rest()
    if as_json:
        facts = {
            "state": str(done.state),
            "people": done.people,
            "homes": done.homes,
            "database": done.database,
            "site_files": list(done.site_files),
        }
        print_lines([json.dumps(facts, indent=2)])
        return
    homes = "" if done.homes else "; their files are not in the backup"
    who = "1 person" if done.people == 1 else f"{done.people} people"
    print_lines(
        [
            f"{done.state}: {who}, their tokens and the platform's keys are back{homes}.",
            *(f"wrote {path}" for path in done.site_files),
            f"Start it with: tidehub up --state {done.state}",
        ]
    )
