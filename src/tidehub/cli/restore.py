"""`tidehub restore`: a backup into a new state, or into an empty namespace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidehub.backup.missing import Missing
from tidehub.cli.answers import print_json
from tidehub.cli.cluster_options import Context, Kubeconfig
from tidehub.cli.console import make_say, print_lines
from tidehub.cli.options import State, json_of
from tidehub.errors import UsageError
from tidehub.program import command

if TYPE_CHECKING:
    from tidehub.backup.cluster_restore import ClusterRestored
    from tidehub.backup.machine_restore import Restored


def restore(
    backup: Annotated[Path, typer.Argument(metavar="BACKUP", help="The file that `tidehub backup` wrote.")],
    state: State = None,
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="On one machine: an empty PostgreSQL database for the hub's data, when it is not where it was. "
            "A password belongs in a password file, not here.",
        ),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="On a cluster: the namespace, when it is not the one of the backup."
        ),
    ] = None,
    missing_volumes: Annotated[
        Missing, typer.Option(help="On a cluster: what to do about volumes that it does not have any more.")
    ] = Missing.REFUSE,
    site_into: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where to put the site file and its secrets, if the backup has them."
        ),
    ] = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    as_json: Annotated[bool, json_of("what is back, and what is not")] = False,
) -> None:
    """Bring back what a backup holds; overwrite nothing.

    Users, tokens, keys, files or their volumes. A backup knows which of the two targets it was taken from, and goes
    back there. On a cluster this makes the claims and the hub's database; `tidehub deploy` then installs the rest.
    """
    from tidehub.backup.container import BackupReader

    say = make_say()
    try:
        if BackupReader(backup).target == "kubernetes":
            _refuse_options("a cluster", {"--state": state, "--database": database})
            from tidehub.backup.cluster_restore import restore_cluster
            from tidehub.kubernetes.session import connect_to

            cluster = connect_to(kubeconfig, context)
            done = restore_cluster(
                backup,
                cluster,
                namespace=namespace,
                missing=missing_volumes,
                site_into=site_into,
                step=say.step,
            )
            facts, lines = done.to_json(), _cluster_lines(done)
        else:
            _refuse_options(
                "one machine", {"--namespace": namespace, "--kubeconfig": kubeconfig, "--context": context}
            )
            from tidehub.backup.machine_restore import restore as restore_machine
            from tidehub.local.places import Places

            back = restore_machine(
                backup, Places.of(state), database_url=database, site_into=site_into, step=say.step
            )
            facts, lines = back.to_json(), _machine_lines(back)
    finally:
        say.rest()
    if as_json:
        print_json(facts)
    else:
        print_lines(lines)


def _refuse_options(target: str, given: dict[str, object]) -> None:
    for option, value in given.items():
        if value is not None:
            raise UsageError(f"{option} has no meaning here: this is a backup of {target}")


def _machine_lines(done: Restored) -> list[str]:
    from tidehub.local.places import Places
    from tidehub.local.places import command as command_on
    from tidehub.local.supervisor.last_up import last_options, up_again

    homes = "" if done.homes else "; their files are not in the backup"
    who = "1 user" if done.users == 1 else f"{done.users} users"
    if done.site_files:
        start = command_on(done.state, "up", *_site_option(done.site_files))
    else:
        places = Places.of(done.state)
        start = up_again(places, last_options(places))
    return [
        f"{done.state}: {who}, their tokens and the platform's keys are back{homes}.",
        *(f"wrote {path}" for path in done.site_files),
        f"Start it with: {start}",
    ]


def _site_option(files: Sequence[str]) -> list[str]:
    """The site file is the one whose secrets, if any, lie beside it."""
    from tidehub.charts.pins import NAME

    names = {file: Path(file).name for file in files}
    sites = [file for file, name in names.items() if name != NAME and ".secrets." not in name]
    return [sites[0]] if len(sites) == 1 else []


def _cluster_lines(done: ClusterRestored) -> list[str]:
    lines = []
    for what, names in (
        ("on the volumes that they had", done.found),
        ("on volumes attached again by their handles", done.reattached),
        ("on new, empty volumes", done.empty),
    ):
        if names:
            lines.append(f"{len(names)} claim{'' if len(names) == 1 else 's'} {what}: {', '.join(names)}")
    lines.append("the hub's database is back" if done.database else "the backup holds no database of the hub")
    if done.set_aside:
        lines.append(f"a database that was there already is kept on the volume as {done.set_aside}")
    lines += [f"wrote {path}" for path in done.site_files]
    # Its secrets and the digests of its charts lie beside it.
    sites = [path for path in done.site_files if ".secrets." not in path and not path.endswith(".lock.yaml")]
    deploy = command("deploy", sites[0] if sites else "FILE")
    return [*lines, f"Install the platform in the namespace {done.namespace} with: {deploy}"]
