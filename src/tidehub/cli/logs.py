"""`tidehub logs`: what the parts, users' servers and clusters wrote."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from tidehub.cli import completing
from tidehub.cli.answers import print_json_line
from tidehub.cli.cluster_options import Context, Kubeconfig
from tidehub.cli.console import lost, print_lines
from tidehub.cli.options import SiteFile, State
from tidehub.cli.target import Target, TargetOption, choose_target
from tidehub.errors import UsageError
from tidehub.log_filter import is_probe
from tidehub.printable import without_colors

_LINES = 20


def logs(
    part: Annotated[
        str | None,
        typer.Argument(
            metavar="PART",
            help="hub, proxy, ..., servers/NAME, clusters/NAME; without: all parts.",
            autocompletion=completing.parts,
        ),
    ] = None,
    file: SiteFile = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as the logs grow.")] = False,
    lines: Annotated[
        int | None,
        typer.Option(
            "-n", "--lines", min=0, help="How many last lines of each.  [default: 20; with --since all]"
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="DURATION", help="Only what was written since then: '15 min', '2 h'."
        ),
    ] = None,
    probes: Annotated[bool, typer.Option("--probes", help="Also show answered health probes.")] = False,
    state: State = None,
    target: TargetOption = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object for each line: its log and its text.")
    ] = False,
) -> None:
    """Show what parts, users' servers and clusters wrote.

    Secrets of the platform are not in it, and neither are health probes that were answered well.
    """
    wanted = _Wanted(lines, None if since is None else _seconds(since), probes)
    if (
        choose_target(target, site=file, state=state, kubeconfig=kubeconfig, context=context)
        is Target.KUBERNETES
    ):
        _cluster_logs(file, kubeconfig, context, part, wanted, follow=follow, as_json=as_json)
        return
    from tidehub.local.logs import lines as reading_lines
    from tidehub.local.logs import reading
    from tidehub.local.places import Places

    places = Places.of(state)
    chosen = reading.choose(places, part)
    hide = reading.redactor(places)
    show = _shower(several=len(chosen) > 1, as_json=as_json)

    def text(line: bytes) -> str:
        return without_colors(line.decode(errors="backslashreplace"))

    for name, path in chosen.items():
        if wanted.start is None:
            found: Iterable[bytes] = reading_lines.last_kept(path, wanted.count, wanted.keep, hide)
        else:
            found = wanted.last(reading_lines.lines_since(path, wanted.start, hide))
        show(name, (text(line) for line in found))
    if follow:
        for name, line in reading_lines.follow(chosen, hide):
            if wanted.keep(line):
                show(name, [text(line)])
            if lost():
                break


@dataclass(frozen=True)
class _Wanted:
    """Which lines of each log."""

    lines: int | None
    seconds: float | None
    probes: bool

    @property
    def count(self) -> int:
        return _LINES if self.lines is None else self.lines

    @property
    def start(self) -> datetime | None:
        return None if self.seconds is None else datetime.now(UTC) - timedelta(seconds=self.seconds)

    def keep(self, line: bytes) -> bool:
        return self.probes or not is_probe(line)

    def last(self, found: Iterable[bytes]) -> Iterable[bytes]:
        """Those of a stretch of time: all of them, unless a number was asked for."""
        kept = (line for line in found if self.keep(line))
        return kept if self.lines is None else deque(kept, self.lines)


def _shower(*, several: bool, as_json: bool) -> Callable[[str, Iterable[str]], None]:
    """Prints lines of one log: with its name in front where there are several."""

    def show(name: str, found: Iterable[str]) -> None:
        if as_json:
            for line in found:
                print_json_line({"log": name, "line": line})
                if lost():
                    break
        else:
            print_lines(f"{name} | {line}" if several else line for line in found)

    return show


def _seconds(given: str) -> float:
    from tidehub.site.units import QuantityError, parse_duration

    try:
        return parse_duration(given)
    except QuantityError as error:
        raise UsageError(f"--since: {error.what}", expected=error.expected, fix=error.fix) from None


def _cluster_logs(
    site: Path | None,
    kubeconfig: Path | None,
    context: str | None,
    part: str | None,
    wanted: _Wanted,
    *,
    follow: bool,
    as_json: bool,
) -> None:
    from tidehub.cli.deployed import known_secrets, open_deployed
    from tidehub.kubernetes.observing import logs as reading

    deployed = open_deployed(site, kubeconfig, context)
    cluster, namespace = deployed.cluster, deployed.namespace
    chosen = reading.choose(reading.sources(cluster, namespace), part)
    hide = reading.redactor(known_secrets(deployed.site_file))
    show = _shower(several=len(chosen) > 1, as_json=as_json)

    def keep(line: str) -> bool:
        return wanted.keep(line.encode(errors="replace"))

    for source in chosen if wanted.lines != 0 else ():
        found = reading.last_lines(
            cluster,
            namespace,
            source,
            None if wanted.lines is None and wanted.seconds is not None else wanted.count,
            seconds=wanted.seconds,
            keep=keep,
        )
        show(source.name, map(hide, found))
    if follow:
        for source, line in reading.follow(cluster, namespace, chosen):
            if keep(line):
                show(source.name, [hide(line)])
            if lost():
                break
