"""`tidehub explain`: what a key means, has, and becomes."""

from __future__ import annotations

from typing import Annotated

import typer

from tidehub.cli import completing
from tidehub.cli.answers import print_json
from tidehub.cli.console import print_lines
from tidehub.cli.options import Settings, SiteFile, json_of
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
    as_json: Annotated[bool, json_of("the key, its values and what it becomes")] = False,
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
        code = 0 if fault is None else fault.exit_code
        print_json(words.as_dict(found) | wrong, code=code)
        raise typer.Exit(code)
    print_lines(words.lines(found))
    if fault is not None:
        raise fault
