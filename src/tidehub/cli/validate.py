"""`tidehub validate`: is all well with the site file?"""

from __future__ import annotations

from typing import Annotated

import typer

from tidehub.cli.answers import print_json
from tidehub.cli.console import print_lines
from tidehub.cli.options import Settings, SiteFile, json_of
from tidehub.cli.site_options import check_given, settings_of
from tidehub.errors import FAILED, USAGE


def validate(
    file: SiteFile = None,
    as_json: Annotated[bool, json_of("each problem, its place and its remedy")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail too, with exit code 1.")] = False,
    settings: Settings = None,
) -> None:
    """Check the site file: all its problems, with what to do.

    Each is reported with file, line and column. Exit code 0 when the file can be used, 2 when it cannot. Variables such
    as TIDEHUB__NOTEBOOKS__MEMORY__LIMIT replace what the file says, --set replaces both.
    """
    found = check_given(file, settings_of(settings))
    if as_json:
        print_json(found.as_dict())
    else:
        print_lines(found.lines())
    raise typer.Exit(USAGE if found.errors else FAILED if strict and found.warnings else 0)
