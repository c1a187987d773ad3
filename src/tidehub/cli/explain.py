"""`tidehub explain`: what a key means, has, and becomes."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tidehub.cli.console import print_lines
from tidehub.cli.options import AsJson, Settings, SiteFile
from tidehub.cli.site_options import load_for_explaining, settings_of


def explain(
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="A key, such as notebooks.memory.limit, or a section.")
    ],
    file: SiteFile = None,
    as_json: AsJson = False,
    settings: Settings = None,
) -> None:
    """Show a key of the site file: meaning, allowed values, value, where that was set, and what it becomes.

    What it becomes is said for the hub's configuration, Helm values, and one machine. A section lists its keys.
    """
    from tidehub.site import explain as words

    words.find_key(key)
    loaded, fault = load_for_explaining(file, settings_of(settings))
    found = words.explain(key, loaded)
    print_lines([json.dumps(words.as_dict(found), indent=2)] if as_json else words.lines(found))
    if fault is not None:
        raise fault
