"""Which of the two targets a command is about, where the same words serve both."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tidehub.errors import UsageError


class Target(StrEnum):
    """Where a platform runs."""

    MACHINE = "machine"
    KUBERNETES = "kubernetes"


TargetOption = Annotated[
    Target | None,
    typer.Option(
        "--target",
        help="This machine, or the Kubernetes cluster. By default what the other options say; else this machine "
        "where a platform was set up on it, and the cluster where the site file has a section for one.",
    ),
]


def choose_target(
    given: Target | None,
    *,
    site: Path | None,
    state: Path | None,
    kubeconfig: Path | None,
    context: str | None,
) -> Target:
    """The target of this call. Raises `UsageError` for options of both."""
    if state is not None and (kubeconfig is not None or context is not None or given is Target.KUBERNETES):
        raise UsageError(
            "--state is about this machine, and the other options are about a cluster",
            expected="one of the two targets",
        )
    if given is not None:
        return given
    if kubeconfig is not None or context is not None:
        return Target.KUBERNETES
    from tidehub.local.places import Places

    if state is not None or Places.of(None).exists:
        return Target.MACHINE
    return Target.KUBERNETES if _has_cluster(site) else Target.MACHINE


def _has_cluster(site: Path | None) -> bool:
    """Whether the site file states a cluster; what is wrong with it is said by who loads it."""
    from tidehub.cli.site_options import file_here, load_given
    from tidehub.site.problems import SiteError

    if file_here(site) is None:
        return False
    try:
        return load_given(site).site.kubernetes is not None
    except SiteError:
        return False
