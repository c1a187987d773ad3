"""`tidehub import`: existing Helm values become a site file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidehub.cli.answers import print_json
from tidehub.cli.console import print_lines
from tidehub.cli.options import json_of
from tidehub.errors import FAILED
from tidehub.program import command


def import_values(
    values: Annotated[
        list[Path],
        typer.Argument(
            metavar="VALUES...", help="Values files in the order of `helm -f`; an Ingress object, too."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="Directory for tidehub.yaml and its secrets."),
    ] = Path(),
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", metavar="NAME", help="Namespace of the releases.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the site, as users see it.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing site file.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the site file; write nothing.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also list what was understood.")] = False,
    as_json: Annotated[bool, json_of("what became of every value")] = False,
) -> None:
    """Make a site file of existing Helm values.

    Of daskhub, jupyterhub and dask-gateway; it says what became of every value. Exit code 1: written, but the site
    file still lacks something that the values do not state.
    """
    # Imported here, so that the other commands do not pay for it.
    from tidehub.importing.command import import_files
    from tidehub.importing.report import as_json as account
    from tidehub.importing.report import lines, summary

    done = import_files(values, output, namespace=namespace, name=name, force=force, write_nothing=dry_run)
    if as_json:
        print_json(
            account(done.imported, done.problems, done.written, done.otherwise),
            code=0 if done.is_complete else FAILED,
        )
    else:
        report = [
            *lines(done.imported, done.problems, done.otherwise, verbose=verbose),
            "",
            summary(done.imported),
        ]
        if dry_run:
            report = [done.text, *report]
        print_lines(report if report[0] else report[1:])
        for what, path in done.written.items():
            words = {"site": "site file", "secrets": "secrets, mode 0600", "gitignore": "ignores the secrets"}
            print_lines([f"  {path}  ({words[what]})"])
        if not done.is_complete:
            check = command("validate", output / "tidehub.yaml")
            print_lines([f"The site file is not complete yet: see above, and {check}"])
    if not done.is_complete:
        raise typer.Exit(FAILED)
