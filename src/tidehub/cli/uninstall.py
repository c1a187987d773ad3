"""`tidehub uninstall`: removes the platform and leaves what belongs to users."""

from __future__ import annotations

from typing import Annotated

import typer

from tidehub.cli.changing import (
    DEFAULT_TIMEOUT,
    Adopt,
    Timeout,
    changing,
    commands,
    confirmed,
    given,
    options,
    print_result,
)
from tidehub.cli.cluster_options import Context, Kubeconfig
from tidehub.cli.options import SiteFile, json_of


def uninstall(
    file: SiteFile = None,
    delete_homes: Annotated[
        bool, typer.Option("--delete-homes", help="Delete users' homes too, with all that is in them.")
    ] = False,
    delete_database: Annotated[
        bool, typer.Option("--delete-database", help="Delete the hub's database and keys too.")
    ] = False,
    delete_crds: Annotated[
        bool,
        typer.Option(
            "--delete-crds",
            help="Delete the charts' CustomResourceDefinitions too, which count for the whole cluster.",
        ),
    ] = False,
    delete_namespace: Annotated[
        bool, typer.Option("--delete-namespace", help="Delete the namespace too, once nothing else is in it.")
    ] = False,
    yes: Annotated[
        str | None,
        typer.Option(
            "--yes", metavar="NAMESPACE", help="Confirm permanent deletions with the namespace's name."
        ),
    ] = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
    adopt: Adopt = None,
    as_json: Annotated[bool, json_of("each step, and what is left")] = False,
) -> None:
    """Remove the platform from its namespace; homes stay.

    The hub's database and its keys stay too, unless they are named. What is left is listed; a deployment into the
    same namespace finds it again.
    """
    from tidehub.cli.deployed import open_deployed
    from tidehub.kubernetes.deploying.running import Work
    from tidehub.kubernetes.deploying.uninstall import Also
    from tidehub.kubernetes.deploying.uninstall import uninstall as uninstalled

    flags = {
        "--delete-homes": (delete_homes, "users' homes"),
        "--delete-database": (delete_database, "the hub's database and keys"),
        "--delete-crds": (delete_crds, "the charts' CRDs in the whole cluster"),
        "--delete-namespace": (delete_namespace, "the namespace"),
    }
    more = [name for name, (wanted, _) in flags.items() if wanted]
    more += [*given("--adopt", adopt), *given("--yes", [yes] if yes else [])]
    typed = commands("uninstall", file, kubeconfig, context, *more)
    with changing(as_json) as say:
        deployed = open_deployed(file, kubeconfig, context)
        if named := [words for wanted, words in flags.values() if wanted]:
            confirmed(deployed.namespace, named, yes)
        work = Work(deployed.cluster, deployed.helm, deployed.namespace, say, options(timeout, adopt), typed)
        also = Also(delete_homes, delete_database, delete_crds, delete_namespace)
        done = uninstalled(work, also)

    def said() -> list[str]:
        if not done.result.changed:
            return [f"The namespace {done.result.namespace} does not exist: nothing was changed."]
        left = done.left.lines()
        first = f"The platform is gone from {done.result.namespace}."
        return [first, "Left:", *(f"  {line}" for line in left)] if left else [first, "Nothing is left."]

    print_result(done.result, as_json, said, {"left": done.left.to_json()})
