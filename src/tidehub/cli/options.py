"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

State = Annotated[
    Path | None,
    # `readable`: whoever may not look into it reads whose it is, which typer cannot know.
    typer.Option(
        "--state",
        metavar="DIR",
        readable=False,
        help="The state directory, when it is not the default one.",
    ),
]
SiteFile = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="The site file.  [default: tidehub.yaml]")
]
SiteOption = Annotated[
    Path | None,
    typer.Option("--site", metavar="FILE", help="The site file, for a cluster.  [default: tidehub.yaml]"),
]
MachineSite = Annotated[
    Path | None,
    typer.Option("--site", metavar="FILE", help="The site file. Without one: a small site for trying out."),
]
DemoLogin = Annotated[
    bool,
    typer.Option("--demo-login", help="Log in with demo accounts instead of the site's identity provider."),
]
Fit = Annotated[
    bool, typer.Option("--fit", help="Shrink the site's sizes in proportion to what this machine has.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Replace one value of the site, as in notebooks.memory.limit='8 GiB'. May be given again.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
