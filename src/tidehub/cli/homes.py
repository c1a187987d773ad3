"""`tidehub homes`: users' homes on a cluster, and which of two somebody gets."""

from __future__ import annotations

from typing import Annotated

import typer

from tidehub.cli.answers import print_json
from tidehub.cli.changing import confirmed
from tidehub.cli.cluster_options import Context, Kubeconfig
from tidehub.cli.console import print_lines
from tidehub.cli.options import SiteFile, json_of


def homes(
    file: SiteFile = None,
    use: Annotated[
        str | None,
        typer.Option(
            "--use", metavar="USER", help="Give USER (of a named server: USER/SERVER) the older home."
        ),
    ] = None,
    pvc: Annotated[
        str | None, typer.Option("--pvc", metavar="NAME", help="With --use: this home, not the oldest.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --use: say what would be done, and do nothing.")
    ] = False,
    yes: Annotated[
        str | None, typer.Option("--yes", metavar="USER", help="Confirm --use with the user's name.")
    ] = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    as_json: Annotated[bool, json_of("users' homes, or what became of them")] = False,
) -> None:
    """Show who has two homes, and choose the one they get.

    The one that is not chosen is set aside: its PVC gets an annotation, and stays with all that is in it. The choice
    counts from the next start of the server; `--use USER --pvc NAME` goes back.
    """
    from tidehub.cli.deployed import open_deployed
    from tidehub.kubernetes.homes import moving, whose

    deployed = open_deployed(file, kubeconfig, context)
    found = moving.homes(deployed.cluster, deployed.namespace)
    if use is None:
        if as_json:
            print_json(whose.to_json(found))
        else:
            print_lines(whose.lines(found))
        return
    chosen, others = whose.choose(found, use, pvc)
    told = [
        f"{chosen.owner} gets {chosen.pvc} (made {chosen.created})",
        *(f"set aside: {one.pvc}" for one in others),
    ]
    if not dry_run:
        moving.refuse_other_spawners(deployed.cluster, deployed.namespace)
        if not as_json:
            print_lines(told)
        confirmed(use, [one.pvc for one in others], yes, kind="user", does="sets aside")
        moving.give(deployed.cluster, deployed.namespace, chosen, others)
    if as_json:
        print_json({"done": not dry_run, "home": chosen.pvc, "set_aside": [one.pvc for one in others]})
        return
    last = "Nothing was done: --dry-run." if dry_run else "Done; it counts from the next start of the server."
    print_lines([*(told if dry_run else ()), last])
