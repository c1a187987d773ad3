"""`tidehub limits`: what users can really have."""

from __future__ import annotations

import json

from tidehub.cli.console import print_lines
from tidehub.cli.options import AsJson, Settings, SiteFile
from tidehub.cli.site_options import load_given, settings_of


def limits(file: SiteFile = None, as_json: AsJson = False, settings: Settings = None) -> None:
    """Show what users can really have, and which limit binds.

    For each worker size: how many of it a cluster can hold.
    """
    from tidehub.site.limits_report import limits_report, lines

    report = limits_report(load_given(file, settings_of(settings)).site)
    print_lines([json.dumps(report, indent=2)] if as_json else lines(report))
