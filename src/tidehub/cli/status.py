"""`tidehub status`: what runs here."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tidehub.cli.console import print_lines
from tidehub.cli.options import State
from tidehub.errors import FAILED


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    state: State = None,
) -> None:
    """Show what runs; exit code 0 when all is well, 1 when nothing runs or a part does not."""
    from tidehub.local.places import Places
    from tidehub.local.supervisor.client import platform_status
    from tidehub.local.supervisor.words import status_lines

    found = platform_status(Places.of(state))
    print_lines([json.dumps(found, indent=2)] if as_json else status_lines(found))
    raise typer.Exit(0 if found.get("healthy") else FAILED)
