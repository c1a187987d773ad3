"""`tidehub status`: what runs here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from tidehub.cli.console import print_lines
from tidehub.cli.options import State
from tidehub.errors import FAILED

if TYPE_CHECKING:
    from tidehub.local.places import Places


def _trial_accounts(places: Places, found: Mapping[str, object]) -> list[str]:
    """The accounts of the embedded identity provider, while it runs; for the operator's eyes, never in the JSON."""
    parts = found.get("parts")
    names = [part.get("name") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    if "identity" not in names:
        return []
    from tidehub.identity.demo_accounts import PEOPLE, read_demo_passwords

    about = {person.username: person.part for person in PEOPLE}
    passwords = read_demo_passwords(places.identity)
    return ["", "accounts for trying out:"] + [
        f"  {name:<6}  {password}   {about.get(name, '')}".rstrip() for name, password in passwords.items()
    ]


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    state: State = None,
) -> None:
    """Show what runs; exit code 0 when all is well, 1 when nothing runs or a part does not."""
    from tidehub.local.places import Places
    from tidehub.local.supervisor.client import platform_status
    from tidehub.local.supervisor.words import status_lines

    places = Places.of(state)
    found = platform_status(places)
    print_lines(
        [json.dumps(found, indent=2)] if as_json else [*status_lines(found), *_trial_accounts(places, found)]
    )
    raise typer.Exit(0 if found.get("healthy") else FAILED)
