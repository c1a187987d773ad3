"""`tidehub secrets`: which there are and where they go, making, replacing and checking them. No value ever shows."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidehub.cli import completing
from tidehub.cli.answers import print_json
from tidehub.cli.console import print_lines
from tidehub.cli.lazy import SETTINGS, Command, Group
from tidehub.cli.options import SiteFile, json_of
from tidehub.cli.site_options import DEFAULT_FILE, load_given
from tidehub.errors import FAILED

if TYPE_CHECKING:
    from tidehub.secrets.words import Line
    from tidehub.site.model import Site
    from tidehub.site.problems import Problem

app = typer.Typer(
    cls=Group,
    help="Show, make and replace secrets; values are never shown.",
    no_args_is_help=True,
    **SETTINGS,
)

StateOf = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="DIR",
        readable=False,
        help="The platform's own secrets in this state directory instead.",
    ),
]


@app.command(cls=Command)
def show(
    file: SiteFile = None,
    state: StateOf = None,
    as_json: Annotated[bool, json_of("the source, age and destinations of each")] = False,
) -> None:
    """List the secrets: where each comes from and where it goes.

    Also how old each one is.
    """
    from datetime import UTC, datetime

    from tidehub.secrets.words import shown

    now = datetime.now(UTC)
    lines, problems = (_lines_of_state(state), ()) if state else _lines_of_site(file)
    if as_json:
        answer: dict[str, Any] = {"secrets": [line.as_dict(now) for line in lines]}
        answer["problems"] = [problem.as_dict() for problem in problems]
        print_json(answer, code=FAILED if problems else 0)
    else:
        print_lines(shown(lines, now) or ["This site needs no secrets of its own."])
        print_lines([f"tidehub: {problem}" for problem in problems], sys.stderr)
    raise typer.Exit(FAILED if problems else 0)


@app.command(cls=Command)
def create(
    file: SiteFile = None,
    as_json: Annotated[bool, json_of("what was made, and what is still to be given")] = False,
) -> None:
    """Make the secrets that are missing; existing ones stay.

    They go into the secrets file beside the site file.
    """
    from tidehub.secrets.changes import create
    from tidehub.secrets.site_secrets import needed
    from tidehub.secrets.words import created_lines

    created = create(file or DEFAULT_FILE, needed(_site(file)))
    if as_json:
        print_json(created.to_json())
    else:
        print_lines(created_lines(created))


@app.command(cls=Command)
def rotate(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="The secret's name, as show lists it.", autocompletion=completing.secrets
        ),
    ],
    file: SiteFile = None,
    state: StateOf = None,
    accept: Annotated[
        str | None,
        typer.Option(
            "--accept", metavar="PRICE", help="What the rotation takes away, where it does: logouts."
        ),
    ] = None,
    forget_old: Annotated[
        bool,
        typer.Option(
            "--forget-old", help="Also drop old keys: what is encrypted with them can never be read again."
        ),
    ] = False,
    as_json: Annotated[bool, json_of("the effect, and what to restart")] = False,
) -> None:
    """Replace a secret by a new value, and say what follows.

    For users, and what to start anew.
    """
    from tidehub.secrets.declared import Kept
    from tidehub.secrets.words import restarts, rotated_lines

    if state:
        from tidehub.local.places import Places
        from tidehub.local.secret_rotation import rotate_in_state

        owner = Kept.STATE
        rotated = rotate_in_state(Places.of(state), name, accept=accept, forget_old=forget_old)
    else:
        from tidehub.secrets.changes import rotate

        owner = Kept.SITE
        _site(file)
        rotated = rotate(file or DEFAULT_FILE, name, accept=accept, forget_old=forget_old)
    if as_json:
        answer = {
            "name": name,
            "place": rotated.place,
            "effect": rotated.declared.rotation.effect,
            "old_values": rotated.old_values,
            "restart": restarts(rotated.declared, owner),
        }
        print_json(answer)
    else:
        print_lines(rotated_lines(rotated, owner=owner))


@app.command(cls=Command)
def check(
    file: SiteFile = None, as_json: Annotated[bool, json_of("what is missing or wrong")] = False
) -> None:
    """Say everything that is wrong or missing.

    Exit code 0 when every needed secret is there.
    """
    from tidehub.secrets.site_secrets import needed, problems_of, resolve

    wanted = needed(_site(file))
    resolved = resolve(file or DEFAULT_FILE, os.environ)
    problems = problems_of(resolved, wanted)
    missing = [one.name for one in wanted if one.name not in resolved.found]
    good = not missing and all(problem.severity != "error" for problem in problems)
    if as_json:
        answer: dict[str, Any] = {"ok": good, "missing": missing, "placeholders": resolved.placeholders}
        answer["problems"] = [problem.as_dict() for problem in problems]
        print_json(answer, code=FAILED if problems else 0)
    else:
        count = len(wanted)
        closing = f"{count} needed, all there." if good else "The secrets are not complete."
        print_lines(
            [*map(str, problems), closing if count or not good else "This site needs no secrets of its own."]
        )
    raise typer.Exit(0 if good else FAILED)


def _site(file: Path | None) -> Site:
    return load_given(file).site


def _lines_of_site(file: Path | None) -> tuple[list[Line], Sequence[Problem]]:
    from tidehub.secrets.site_secrets import needed, resolve
    from tidehub.secrets.words import lines_of

    site = _site(file)
    resolved = resolve(file or DEFAULT_FILE, os.environ)
    return lines_of(resolved, needed(site)), resolved.problems


def _lines_of_state(state: Path) -> list[Line]:
    from tidehub.local.places import Places
    from tidehub.local.secret_rotation import state_secrets
    from tidehub.secrets.declared import Kept
    from tidehub.secrets.words import Line

    places = Places.of(state)
    place = places.secrets.name
    return [
        Line(one.declared, "set", place, "state", one.made, one.values, owner=Kept.STATE)
        for one in state_secrets(places)
    ]
