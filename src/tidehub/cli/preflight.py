"""`tidehub preflight`: is this cluster ready for this site, item by item, with the remedy."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from tidehub.cli.answers import print_json
from tidehub.cli.changing import Adopt
from tidehub.cli.cluster_options import Charts, Context, Kubeconfig, Offline
from tidehub.cli.console import make_say, print_lines
from tidehub.cli.options import Settings, SiteFile, json_of
from tidehub.cli.site_options import DEFAULT_FILE, settings_of
from tidehub.errors import FAILED


def preflight(
    file: SiteFile = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    charts: Charts = None,
    offline: Offline = False,
    settings: Settings = None,
    adopt: Adopt = None,
    as_json: Annotated[bool, json_of("each finding and its remedy")] = False,
    seconds: Annotated[
        float, typer.Option(metavar="SECONDS", min=5, help="Time for all items together.")
    ] = 90.0,
) -> None:
    """Check whether a cluster is ready for the site.

    Every item is reported with what was found and what to do. It reads and makes dry runs, and changes nothing. What
    your credentials may not read is reported as unknown, with the missing permission. The exit code is 1 where
    something prevents a deployment.
    """
    # Imported here, so that the other commands do not pay for it.
    from tidehub.kubernetes.preflight import report
    from tidehub.kubernetes.preflight.opening import open_context
    from tidehub.kubernetes.preflight.run import preflight as look_at

    say = make_say()
    say.step("Reading the site, its charts and the cluster")
    given = open_context(
        file or DEFAULT_FILE,
        settings_of(settings),
        kubeconfig,
        context,
        charts,
        offline=offline,
        environ=os.environ,
        say=say.note,
        adopt=adopt or (),
    )
    say.step("Asking the cluster")
    findings = look_at(given, seconds=seconds)
    say.rest()
    cluster = given.look.cluster.name if given.look else None
    code = 0 if report.ready(findings) else FAILED
    if as_json:
        print_json(report.as_dict(findings, cluster=cluster, namespace=given.namespace), code=code)
    else:
        plain = "utf" not in (sys.stdout.encoding or "").lower()
        print_lines([f"{cluster or 'no cluster'}, namespace {given.namespace}"])
        print_lines(report.lines(findings, plain=plain))
        print_lines([report.summary(findings)])
    raise typer.Exit(code)
