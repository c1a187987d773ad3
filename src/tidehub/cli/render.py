"""`tidehub render`: the platform as Helm values and Kubernetes objects, in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidehub.cli.answers import print_json
from tidehub.cli.cluster_options import Charts, Offline
from tidehub.cli.console import print_lines
from tidehub.cli.options import Settings, SiteFile, json_of
from tidehub.cli.site_options import DEFAULT_FILE, settings_of
from tidehub.errors import FAILED, UsageError


def render(
    file: SiteFile = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="The folder to write.")
    ] = None,
    charts: Charts = None,
    offline: Offline = False,
    kube_version: Annotated[
        str | None,
        typer.Option(
            "--kube-version", metavar="VERSION", help="Kubernetes to render for.  [default: 1.34.0]"
        ),
    ] = None,
    show: Annotated[
        str | None,
        typer.Option(
            "--show",
            metavar="RELEASE[/KIND[/NAME]]",
            help="Print objects instead of writing. What stands beside the charts is the release 'tidehub'.",
        ),
    ] = None,
    with_secrets: Annotated[
        bool,
        typer.Option("--with-secrets", help="Write secrets in plain text, readable only by you."),
    ] = False,
    with_charts: Annotated[
        bool, typer.Option("--with-charts", help="Also put the packaged charts into the folder.")
    ] = False,
    as_json: Annotated[bool, json_of("releases, objects and what is wrong with them")] = False,
    settings: Settings = None,
) -> None:
    """Write Helm values and objects into a folder, to review.

    It holds the commands, too: a folder to read, or to leave with. Needs helm, and no cluster. Secrets are not needed
    either: words take their places. The same site gives the same folder to the byte. What is rendered is checked, and
    nothing is written where it has errors.
    """
    if show is not None and (output is not None or as_json or with_secrets):
        raise UsageError("--show prints objects and nothing else", fix="leave the other options out")
    from tidehub.kubernetes.rendering import check, summary
    from tidehub.kubernetes.rendering.folder import check_target
    from tidehub.kubernetes.rendering.render import render as render_platform
    from tidehub.kubernetes.session import open_session

    if output is not None:
        check_target(output)
    session = open_session(
        file or DEFAULT_FILE,
        settings_of(settings),
        charts=charts,
        offline=offline,
        connect=False,
        stand_ins=not with_secrets,
    )
    rendered = render_platform(session.platform, session.archives, session.helm, kube_version=kube_version)
    if show is not None:
        from tidehub.kubernetes.rendering.yaml_text import manifest_of

        print_lines([manifest_of(summary.shown(rendered, show)).rstrip("\n")])
        return
    flaws = check.check(rendered)
    wrong = any(flaw.severity == "error" for flaw in flaws)
    if wrong and not as_json:
        raise check.RenderError(flaws)
    if output is not None and not wrong:
        from tidehub.kubernetes.rendering.content import files
        from tidehub.kubernetes.rendering.folder import write_folder

        write_folder(output, files(rendered, with_secrets=with_secrets, with_charts=with_charts))
    written = None if wrong else output
    if as_json:
        print_json(summary.as_dict(rendered, flaws, written), code=FAILED if wrong else 0)
    else:
        print_lines(summary.lines(rendered, flaws, written))
    raise typer.Exit(FAILED if wrong else 0)
