"""`tidehub check`: a user's path through the front door of a running platform."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidehub.cli.answers import print_json
from tidehub.cli.cluster_options import Context, Kubeconfig
from tidehub.cli.console import print_lines
from tidehub.cli.options import SiteFile, State, json_of
from tidehub.cli.site_options import load_given
from tidehub.cli.target import Target, TargetOption, choose_target
from tidehub.errors import FAILED, TidehubError

if TYPE_CHECKING:
    from tidehub.checks.target import Logs
    from tidehub.checks.target import Target as CheckTarget
    from tidehub.site.model import Site


def check(
    file: SiteFile = None,
    as_json: Annotated[bool, json_of("each step, whether it worked, and how long it took")] = False,
    state: State = None,
    profile: Annotated[
        str | None, typer.Option(metavar="SLUG", help="Profile to start instead of the default one.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="NAME", help="Demo account to use instead of the first free one.")
    ] = None,
    on: TargetOption = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Check a user's path: login, server, notebook, Dask cluster.

    Through the front door of a running platform, to the dashboard of the cluster. Where users sign in at a real
    identity provider, give a hub API token on standard input or in TIDEHUB_CHECK_TOKEN; everything but the login
    itself is then checked. Where a kubeconfig reaches the cluster, a failure is told with its pods, events and logs.
    """
    # Imported here, so that the other commands do not pay for it.
    from tidehub.checks.path import check_path
    from tidehub.checks.report import Phase, Report, lines

    target = _target(on, state, file, kubeconfig, context)
    plain = "utf" not in (sys.stdout.encoding or "").lower()

    def tell(phase: Phase) -> None:
        if not as_json:
            print_lines(lines(phase, plain=plain))

    async def go() -> Report:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await check_path(target, profile=profile, user=user, tell=tell)

    if not as_json:
        print_lines([f"Checking {target.address}"])
    try:
        report = asyncio.run(go())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None  # `main` says so
    if as_json:
        print_json(report.to_json())
    else:
        result = "All is well" if report.ok else "Something is wrong"
        print_lines([f"{result} ({report.seconds:.1f} s, as {report.user or 'nobody'})."])
    if not report.ok:
        raise typer.Exit(FAILED)


def _target(
    on: Target | None, state: Path | None, site: Path | None, kubeconfig: Path | None, context: str | None
) -> CheckTarget:
    if choose_target(on, site=site, state=state, kubeconfig=kubeconfig, context=context) is Target.KUBERNETES:
        from tidehub.checks.promises import TOKEN_VARIABLE
        from tidehub.checks.site_target import site_target

        given = load_given(site).site
        return site_target(given, _given_token(TOKEN_VARIABLE), _cluster_logs(given, kubeconfig, context))
    from tidehub.checks.local_target import local_target
    from tidehub.local.places import Places

    return local_target(Places.of(state), ask_token=_given_token)


def _cluster_logs(site: Site, kubeconfig: Path | None, context: str | None) -> Logs | None:
    """Pods, events and logs of the site's namespace; None where no cluster is reached and none was asked for."""
    from tidehub.kubernetes.observing.evidence import ClusterLogs
    from tidehub.kubernetes.session import connect_to

    if site.kubernetes is None:
        return None
    try:
        return ClusterLogs(connect_to(kubeconfig, context), site.kubernetes.namespace)
    except TidehubError as error:
        if kubeconfig is not None or context is not None:
            raise
        print_lines([f"Pods and logs are not read: {error.what}"], sys.stderr)
        return None


def _given_token(variable: str) -> str | None:
    """A token from the environment, or from standard input where that is not a terminal."""
    token = os.environ.get(variable, "").strip()
    if not token and not sys.stdin.isatty():
        token = sys.stdin.readline(4096).strip()
    return token or None
