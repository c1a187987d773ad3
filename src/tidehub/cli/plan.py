"""`tidehub plan`: what a deployment would change in the cluster. Nothing is changed."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tidehub.cli.answers import print_json
from tidehub.cli.changing import Adopt
from tidehub.cli.cluster_options import Charts, Context, Kubeconfig, Offline
from tidehub.cli.console import print_lines
from tidehub.cli.options import Settings, SiteFile, json_of
from tidehub.errors import FAILED


def plan(
    file: SiteFile = None,
    settings: Settings = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    charts: Charts = None,
    offline: Offline = False,
    adopt: Adopt = None,
    as_json: Annotated[bool, json_of("each change by object and field")] = False,
    exit_code: Annotated[
        bool,
        typer.Option("--exit-code", help="Also exit with 1 if anything would change, as git diff does."),
    ] = False,
) -> None:
    """Show what a deployment would change, and change nothing.

    Object by object and field by field. What stops a deployment, loses data or restarts something comes first. With
    `--adopt`, what the same deployment would do. Exit code 1 where something stops it.
    """
    # Imported here, so that the other commands do not pay for it.
    from tidehub.cli.site_options import DEFAULT_FILE, settings_of
    from tidehub.kubernetes.planning.plan import plan as planned
    from tidehub.kubernetes.planning.words import lines, to_json
    from tidehub.kubernetes.session import open_session

    session = open_session(
        file or DEFAULT_FILE,
        settings_of(settings),
        kubeconfig,
        context,
        charts,
        offline=offline,
        say=lambda line: print_lines([line], sys.stderr),
    )
    found = planned(session.render(), session.connected, session.helm, adopt=adopt or ())
    code = FAILED if found.refusals or (exit_code and not found.empty) else 0
    if as_json:
        print_json(to_json(found), code=code)
    else:
        print_lines(lines(found))
    raise typer.Exit(code)
