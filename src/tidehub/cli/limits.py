"""`tidehub limits`: what users can really have."""

from __future__ import annotations

from typing import Annotated

from tidehub.cli.answers import print_json
from tidehub.cli.console import print_lines
from tidehub.cli.options import Settings, SiteFile, json_of
from tidehub.cli.site_options import load_given, settings_of


def limits(
    file: SiteFile = None,
    as_json: Annotated[bool, json_of("every size and limit, and which one binds")] = False,
    settings: Settings = None,
) -> None:
    """Show what users can really have, and which limit binds.

    For each worker size: how many of it a cluster can hold.
    """
    from tidehub.site.limits_report import limits_report, lines

    report = limits_report(load_given(file, settings_of(settings)).site)
    if as_json:
        print_json(report)
    else:
        print_lines(lines(report))
