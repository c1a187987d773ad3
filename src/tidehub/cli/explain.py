"""`tidehub explain`: what a key means, has, and becomes."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tidehub.cli import completing
from tidehub.cli.console import print_lines
from tidehub.cli.options import AsJson, Settings, SiteFile
from tidehub.cli.site_options import load_for_explaining, settings_of


def explain(
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY",
            help="A key, such as notebooks.memory.limit, or a section.",
            autocompletion=completing.keys,
        ),
    ],
    file: SiteFile = None,
    as_json: AsJson = False,
    settings: Settings = None,
) -> None:
    """Show a key of the site file: meaning, value, effect.

    Also which values are allowed, and where this one was set. What it becomes is said for the hub's configuration,
    Helm values, and one machine. A section lists its keys.
    """
    from tidehub.site import explain as words

    words.find_key(key)
    loaded, fault = load_for_explaining(file, settings_of(settings))
    found = words.explain(key, loaded)
    if as_json:
        from tidehub.cli.failure import failure_json

        wrong = {} if fault is None else failure_json(fault)
        print_lines([json.dumps(words.as_dict(found) | wrong, indent=2)])
        raise typer.Exit(0 if fault is None else fault.exit_code)
    print_lines(words.lines(found))
    if fault is not None:
        raise fault
