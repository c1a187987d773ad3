"""`tidehub backup`: one file with what a platform cannot make again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from tidehub.cli.answers import print_json
from tidehub.cli.cluster_options import Context, Kubeconfig
from tidehub.cli.console import ConsoleSay, make_say, print_lines
from tidehub.cli.options import SiteFile, State, json_of
from tidehub.cli.target import Target, TargetOption, choose_target
from tidehub.errors import UsageError
from tidehub.program import command

Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="The file to write.  [default: tidehub-backup-TIME.tar.gz]"
    ),
]


def backup(
    file: SiteFile = None,
    output: Output = None,
    no_homes: Annotated[
        bool, typer.Option("--no-homes", help="On one machine: leave users' files out.")
    ] = False,
    no_database: Annotated[
        bool, typer.Option("--no-database", help="On a cluster: leave the hub's database out.")
    ] = False,
    state: State = None,
    target: TargetOption = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    as_json: Annotated[bool, json_of("the file, its size and what is in it")] = False,
) -> None:
    """Copy into one private file what cannot be made again.

    While the platform runs or not. Of one machine: databases, keys and users' files. Of a cluster: the hub's
    database, keys, values, Helm's records, and which volume is whose home; the files on these volumes are saved by
    the storage's own snapshots. The site file and the secrets beside it are in it when FILE is given, and always for
    a cluster.

    Whoever has the backup has the platform's secrets: the file is readable by you alone.
    """
    if file is not None and not file.exists() and file.suffix not in (".yaml", ".yml"):
        raise UsageError(
            f"there is no site file {file}",
            expected="the site file; the backup's own name is given with --output",
            fix=f"give the name with: {command('backup', '--output', file)}",
        )
    chosen = choose_target(target, site=file, state=state, kubeconfig=kubeconfig, context=context)
    path = output or Path(time.strftime("tidehub-backup-%Y%m%dT%H%M%S.tar.gz"))
    say = make_say()
    try:
        if chosen is Target.KUBERNETES:
            facts = _of_cluster(path, file, kubeconfig, context, say, database=not no_database)
        else:
            facts = _of_machine(path, file, state, say, homes=not no_homes)
    finally:
        say.rest()
    for warning in facts["warnings"]:
        say.warn(warning)
    facts["size"] = path.stat().st_size
    if as_json:
        print_json(facts)
    else:
        print_lines([_line(facts)])


def _of_machine(
    path: Path, site: Path | None, state: Path | None, say: ConsoleSay, *, homes: bool
) -> dict[str, Any]:
    from tidehub.backup.machine import back_up
    from tidehub.local.places import Places

    made = back_up(Places.of(state), path, homes=homes, site_files=_site_files(site), step=say.step)
    return {
        "file": str(path),
        "target": "machine",
        "people": made.users,
        "homes": made.homes,
        "warnings": list(made.warnings),
    }


def _of_cluster(
    path: Path,
    site: Path | None,
    kubeconfig: Path | None,
    context: str | None,
    say: ConsoleSay,
    *,
    database: bool,
) -> dict[str, Any]:
    from tidehub.backup.cluster import back_up_cluster
    from tidehub.cli.deployed import open_deployed

    deployed = open_deployed(site, kubeconfig, context)
    made = back_up_cluster(
        deployed.cluster,
        deployed.helm,
        deployed.namespace,
        path,
        database=database,
        site_files=_site_files(deployed.site_file),
        step=say.step,
    )
    return {
        "file": str(path),
        "target": "kubernetes",
        "namespace": made.namespace,
        "releases": list(made.releases),
        "pvcs": made.pvcs,
        "database": made.database,
        "warnings": list(made.warnings),
    }


def _site_files(site: Path | None) -> tuple[Path, ...]:
    """The site file and what lies beside it: its secrets, clear or encrypted, and the digests of its charts."""
    if site is None:
        return ()
    from tidehub.charts.pins import NAME
    from tidehub.cli.site_options import load_given

    load_given(site)
    beside = [*sorted(site.parent.glob(f"{site.stem}.secrets.*")), site.parent / NAME]
    return (site, *(path for path in beside if path.is_file()))


def _line(facts: dict[str, Any]) -> str:
    if facts["target"] == "machine":
        count = facts["people"]
        who = "1 user" if count == 1 else f"{count} users"
        what = f"{who} {'with' if facts['homes'] else 'without'} their files"
    else:
        pvcs = facts["pvcs"]
        database = "the hub's database" if facts["database"] else "no database"
        what = f"{', '.join(facts['releases'])}; {database}; {pvcs} PVC{'' if pvcs == 1 else 's'}"
    from tidehub.site.units import about_size

    size = about_size(facts["size"])
    return f"{facts['file']}: {size}, {what}. It holds secrets: keep it as private as the platform."
