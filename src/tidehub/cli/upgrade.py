"""`tidehub upgrade`: goes to another release set, or to other chart versions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidehub.cli.changing import (
    DEFAULT_TIMEOUT,
    Adopt,
    NoBackup,
    NoCheck,
    Timeout,
    changing,
    commands,
    given,
    options,
    print_result,
    switched,
)
from tidehub.cli.cluster_options import Charts, Context, Kubeconfig, Offline
from tidehub.cli.options import Settings, SiteFile, json_of


def upgrade(
    file: SiteFile = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="RELEASE_SET",
            help="The release set to go to, when it is not the site file's (kubernetes.release_set).",
        ),
    ] = None,
    database: Annotated[
        Path | None,
        typer.Option(
            metavar="BACKUP",
            help="A backup whose database the hub gets: for going to an older hub, which cannot read the newer one's.",
        ),
    ] = None,
    settings: Settings = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    charts: Charts = None,
    offline: Offline = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
    adopt: Adopt = None,
    no_backup: NoBackup = False,
    no_check: NoCheck = False,
    as_json: Annotated[bool, json_of("the revision, and each step")] = False,
) -> None:
    """Go to another release set, or to other chart versions.

    Chart versions are those that the site file was changed to. The hub's database, values and Helm's records are
    copied away first; CRDs come before the charts. What changes for good is said: the database's schema, names of
    homes, the group of routes.
    """
    from tidehub.cli.site_options import DEFAULT_FILE, settings_of
    from tidehub.kubernetes.deploying.running import Work
    from tidehub.kubernetes.deploying.upgrade import upgrade as upgraded
    from tidehub.kubernetes.session import open_session

    changed = settings_of(settings)
    more = [*given("--to", [to] if to else []), *given("--set", settings), *given("--adopt", adopt)]
    more += given("--database", [str(database)] if database else [])
    more += given("--charts", [str(charts)] if charts else [])
    more += switched(offline=offline, no_backup=no_backup, no_check=no_check)
    typed = commands("upgrade", file, kubeconfig, context, *more)
    if to is not None:
        changed = (*changed, ("kubernetes.release_set", to))
    with changing(as_json) as say:
        session = open_session(
            file or DEFAULT_FILE, changed, kubeconfig, context, charts, offline=offline, say=say.note
        )
        work = Work(
            session.connected,
            session.helm,
            session.platform.namespace,
            say,
            options(timeout, adopt, no_backup=no_backup, no_check=no_check),
            typed,
        )
        result = upgraded(session.render(), work, database=database)
        if to is not None and result.changed and to != (_release_set(file) or ""):
            work.say.note(
                f"Write it into the site file, or the next deployment reverts it: kubernetes.release_set: {to}"
            )

    def said() -> list[str]:
        if not result.changed:
            return [f"{result.namespace} has these charts already: nothing was changed."]
        charts = ", ".join(f"{one.chart} {one.version}" for one in session.platform.releases)
        return [f"{result.namespace} is at {charts} now, revision {result.revision}."]

    print_result(result, as_json, said)


def _release_set(file: Path | None) -> str | None:
    from tidehub.cli.site_options import load_given

    kubernetes = load_given(file).site.kubernetes
    return kubernetes.release_set if kubernetes else None
