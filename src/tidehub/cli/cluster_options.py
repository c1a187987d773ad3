"""Options of the commands that work on a Kubernetes cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig",
        metavar="FILE",
        help="The kubeconfig.  [default: KUBECONFIG, then ~/.kube/config]",
        show_default=False,
    ),
]
Context = Annotated[
    str | None,
    typer.Option(
        "--context", metavar="NAME", help="The kubeconfig's context, when it is not the current one."
    ),
]
Charts = Annotated[
    Path | None,
    typer.Option("--charts", metavar="DIR", help="A directory of chart archives, used before the network."),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline", help="Take charts from the directory or the cache only, never from the network."
    ),
]
