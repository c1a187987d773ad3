"""`tidehub logs`: what the parts, users' servers and clusters wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidehub.cli.cluster_options import Context, Kubeconfig
from tidehub.cli.console import lost, print_lines
from tidehub.cli.options import SiteOption, State
from tidehub.cli.target import Target, TargetOption, choose_target
from tidehub.printable import without_colors


def logs(
    part: Annotated[
        str | None,
        typer.Argument(
            metavar="[PART]", help="hub, proxy, ..., servers/NAME, clusters/NAME; without: all parts."
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as the logs grow.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many last lines of each.")] = 20,
    state: State = None,
    target: TargetOption = None,
    site: SiteOption = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show logs. Secrets of the platform are not in them."""
    if (
        choose_target(target, site=site, state=state, kubeconfig=kubeconfig, context=context)
        is Target.KUBERNETES
    ):
        _cluster_logs(site, kubeconfig, context, part, follow=follow, lines=lines)
        return
    from tidehub.local.logs import lines as reading_lines
    from tidehub.local.logs import reading
    from tidehub.local.places import Places

    places = Places.of(state)
    chosen = reading.choose(places, part)
    hide = reading.redactor(places)
    several = len(chosen) > 1

    def shown(name: str, line: bytes) -> str:
        text = without_colors(line.decode(errors="backslashreplace"))
        return f"{name} | {text}" if several else text

    for name, path in chosen.items():
        print_lines(shown(name, line) for line in reading_lines.last_lines(path, lines, hide))
    if follow:
        for name, line in reading_lines.follow(chosen, hide):
            print_lines([shown(name, line)])
            if lost():
                break


def _cluster_logs(
    site: Path | None,
    kubeconfig: Path | None,
    context: str | None,
    part: str | None,
    *,
    follow: bool,
    lines: int,
) -> None:
    from tidehub.cli.deployed import known_secrets, open_deployed
    from tidehub.kubernetes.observing import logs as reading

    deployed = open_deployed(site, kubeconfig, context)
    cluster, namespace = deployed.cluster, deployed.namespace
    chosen = reading.choose(reading.sources(cluster, namespace), part)
    hide = reading.redactor(known_secrets(deployed.site_file))
    several = len(chosen) > 1

    def shown(source: reading.Source, line: str) -> str:
        return f"{source.name} | {hide(line)}" if several else hide(line)

    for source in chosen if lines else ():
        print_lines(shown(source, line) for line in reading.last_lines(cluster, namespace, source, lines))
    if follow:
        for source, line in reading.follow(cluster, namespace, chosen):
            print_lines([shown(source, line)])
            if lost():
                break
