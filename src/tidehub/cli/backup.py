"""`tidehub backup`: one file with what a platform cannot make again."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidehub.cli.console import make_say, print_lines
from tidehub.cli.options import AsJson, SiteFile, State

if TYPE_CHECKING:
    from tidehub.backup.machine import Made

Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="The file to write.  [default: tidehub-backup-TIME.tar.gz]"
    ),
]


def backup(
    site: SiteFile = None,
    output: Output = None,
    no_homes: Annotated[
        bool, typer.Option("--no-homes", help="Leave people's files out: they are saved otherwise.")
    ] = False,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Copy databases, keys and people's files into one private file, while the platform runs or not.

    The site file and the secrets beside it are copied too when FILE is given. Whoever has the backup has the
    platform's secrets: the file is readable by you alone.
    """
    from tidehub.backup.machine import back_up
    from tidehub.local.places import Places

    target = output or Path(time.strftime("tidehub-backup-%Y%m%dT%H%M%S.tar.gz"))
    say = make_say()
    try:
        made = back_up(
            Places.of(state), target, homes=not no_homes, site_files=_site_files(site), step=say.step
        )
    finally:
        say.rest()
    for warning in made.warnings:
        say.warn(warning)
    print_lines([json.dumps(_facts(made), indent=2)] if as_json else _lines(made))


def _site_files(site: Path | None) -> tuple[Path, ...]:
    """The site file and what lies beside it by its name: secrets, clear or encrypted, and pinned charts."""
    if site is None:
        return ()
    from tidehub.cli.site_options import load_given

    load_given(site)
    beside = sorted(site.parent.glob(f"{site.stem}.secrets.*"))
    return (site, *(path for path in beside if path.is_file()))


def _facts(made: Made) -> dict[str, object]:
    return {
        "file": str(made.path),
        "size": made.path.stat().st_size,
        "people": made.people,
        "homes": made.homes,
        "warnings": list(made.warnings),
    }


def _lines(made: Made) -> list[str]:
    size = made.path.stat().st_size / 2**20
    homes = "with their files" if made.homes else "without their files"
    who = "1 person" if made.people == 1 else f"{made.people} people"
    return [
        f"{made.path}: {size:.1f} MiB, {who} {homes}. It holds secrets: keep it as private as the platform."
    ]
