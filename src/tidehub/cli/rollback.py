"""`tidehub rollback`: back to a state that was reached before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidehub.cli.changing import (
    DEFAULT_TIMEOUT,
    NoBackup,
    Timeout,
    changing,
    commands,
    given,
    options,
    print_result,
)
from tidehub.cli.cluster_options import Context, Kubeconfig
from tidehub.cli.options import SiteFile, json_of
from tidehub.errors import UsageError


def rollback(
    file: SiteFile = None,
    to: Annotated[
        int | None,
        typer.Option(
            "--to", metavar="REVISION", min=1, help="The revision to go back to.  [default: the one before]"
        ),
    ] = None,
    database: Annotated[
        Path | None,
        typer.Option(
            metavar="BACKUP", help="A backup whose database the hub gets back, as `upgrade` made one."
        ),
    ] = None,
    keep_database: Annotated[
        bool, typer.Option("--keep-database", help="Leave the hub's database as it is, whatever its schema.")
    ] = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
    no_backup: NoBackup = False,
    as_json: Annotated[bool, json_of("the revision, and each step")] = False,
) -> None:
    """Bring all releases back to a state reached before.

    After an unfinished change: to the last one. CRDs stay as they are. Where the hub becomes older than its database,
    say what becomes of that.
    """
    from tidehub.cli.deployed import open_deployed
    from tidehub.kubernetes.deploying.rollback import Database
    from tidehub.kubernetes.deploying.rollback import rollback as rolled_back
    from tidehub.kubernetes.deploying.running import Work

    if database is not None and keep_database:
        raise UsageError("--database and --keep-database contradict each other", expected="one of them")
    more = [
        *given("--to", [str(to)] if to else []),
        *given("--database", [str(database)] if database else []),
    ]
    more += ["--keep-database"] if keep_database else []
    typed = commands("rollback", file, kubeconfig, context, *more)
    with changing(as_json) as say:
        deployed = open_deployed(file, kubeconfig, context)
        work = Work(
            deployed.cluster,
            deployed.helm,
            deployed.namespace,
            say,
            options(timeout, no_backup=no_backup),
            typed,
        )
        decided: Database = "as it is" if keep_database else database
        result = rolled_back(work, to=to, database=decided)

    def said() -> list[str]:
        if not result.changed:
            return [f"{result.namespace} is at that state already: nothing was changed."]
        return [f"{result.namespace} is back, as revision {result.revision}."]

    print_result(result, as_json, said)
