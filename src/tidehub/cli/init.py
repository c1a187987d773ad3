"""`tidehub init`: a site file to start from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tidehub.cli import completing
from tidehub.cli.answers import print_json
from tidehub.cli.console import print_lines
from tidehub.cli.options import json_of


def init(
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Where to write.  [default: this directory]")
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            metavar="NAME",
            help="The site to start from: laptop, egi-pangeo or protocoast.",
            autocompletion=completing.presets,
        ),
    ] = "laptop",
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace a site file that already exists. Secrets stay as they are."),
    ] = False,
    as_json: Annotated[bool, json_of("the files, secrets still to be given, what is next")] = False,
) -> None:
    """Write a commented site file and its private secrets file.

    Only you can read the secrets file, and git ignores it.
    """
    from tidehub.program import command
    from tidehub.secrets.changes import create
    from tidehub.secrets.site_secrets import needed
    from tidehub.secrets.words import created_lines
    from tidehub.site.reading.load import load
    from tidehub.site.start import start

    started = start(directory or Path(), preset, force=force)
    wanted = needed(load(started.file).site)
    created = create(started.file, wanted, os.environ) if wanted else None
    following = [
        command("validate", started.file),
        command("up", started.file, *(() if preset == "laptop" else ("--demo-login", "--fit"))),
    ]
    if as_json:
        print_json(
            {
                "file": str(started.file),
                "preset": started.preset,
                "replaced": started.replaced,
                "secrets": created and created.to_json(),
                "next": following,
            }
        )
        return
    print_lines(
        [
            f"{'replaced' if started.replaced else 'wrote'} {started.file} (preset {preset})",
            *(created_lines(created) if created else []),
            "next:",
            *(f"  {line}" for line in following),
        ]
    )
