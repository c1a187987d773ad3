"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
SITE_VARIABLE = "TIDEHUB_SITE"
"""The environment variable that names the site file of every command."""
_DEFAULT = f"[default: {SITE_VARIABLE}, then tidehub.yaml]"
# Every command names its site file by one of these two; `lazy.Command` gives those commands `--site`, too.
SiteFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="FILE", envvar=SITE_VARIABLE, show_envvar=False, help=f"The site file.  {_DEFAULT}"
    ),
]
MachineSite = Annotated[
    Path | None,
    typer.Argument(
        metavar="FILE",
        envvar=SITE_VARIABLE,
        show_envvar=False,
        help="The site file.  [default: TIDEHUB_SITE, then tidehub.yaml; without one a small site for trying out]",
    ),
]
SiteOption = Annotated[
    Path | None, typer.Option("--site", metavar="FILE", help="The site file: the same as FILE.")
]
BuiltIn = Annotated[
    bool, typer.Option("--built-in", help="Serve the small site for trying out, whatever site file is here.")
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
        help="Replace one value of the site, as in notebooks.memory.limit='8 GiB'. Can be given more than once.",
    ),
]


def json_of(what: str) -> Any:
    """The option `--json` of a command, whose object says `what`; also of its failure (`failure.failure_json`)."""
    return typer.Option("--json", help=f"Print one JSON object: {what}.")
