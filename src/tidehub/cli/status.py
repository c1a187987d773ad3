"""`tidehub status`: what runs here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from tidehub.cli.answers import print_json
from tidehub.cli.cluster_options import Context, Kubeconfig
from tidehub.cli.console import print_lines
from tidehub.cli.options import SiteFile, State, json_of
from tidehub.cli.target import Target, TargetOption, choose_target
from tidehub.errors import FAILED, TidehubError

if TYPE_CHECKING:
    from tidehub.local.places import Places


def _trial_accounts(places: Places, found: Mapping[str, object]) -> list[str]:
    """The accounts of the embedded identity provider, while it runs; for the operator's eyes, never in the JSON."""
    parts = found.get("parts")
    names = [part.get("name") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    if "identity" not in names:
        return []
    from tidehub.local.identity_files import trial_passwords
    from tidehub.local.running import running_settings
    from tidehub.local.trial_roles import trial_roles

    try:
        passwords = trial_passwords(places)
        about = trial_roles(running_settings(places).site)
    except TidehubError as error:
        # What that part's user does with its files must not hide how the other parts are.
        return ["", f"the demo accounts cannot be shown: {error}"]
    return ["", "demo accounts:"] + [
        f"  {name:<6}  {password}   {about.get(name, '')}".rstrip() for name, password in passwords.items()
    ]


def _cluster_status(
    site: Path | None, kubeconfig: Path | None, context: str | None, *, as_json: bool
) -> NoReturn:
    from tidehub.cli.deployed import open_deployed
    from tidehub.kubernetes.observing.status import platform_status
    from tidehub.kubernetes.observing.words import status_lines

    deployed = open_deployed(site, kubeconfig, context)
    found = platform_status(
        deployed.cluster, deployed.helm, deployed.namespace, address=deployed.site.site.url
    )
    code = 0 if found["healthy"] else FAILED
    if as_json:
        print_json(found, code=code)
    else:
        print_lines(status_lines(found))
    raise typer.Exit(code)


def status(
    file: SiteFile = None,
    as_json: Annotated[bool, json_of("addresses, parts, servers, clusters, the queue")] = False,
    state: State = None,
    target: TargetOption = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show what runs, and the addresses and demo accounts.

    Exit code 0 when all is well, 1 when nothing runs or a part does not.
    """
    if (
        choose_target(target, site=file, state=state, kubeconfig=kubeconfig, context=context)
        is Target.KUBERNETES
    ):
        _cluster_status(file, kubeconfig, context, as_json=as_json)
    from tidehub.local.places import Places
    from tidehub.local.supervisor.status import platform_status, status_lines

    places = Places.of(state)
    found = platform_status(places)
    code = 0 if found.get("healthy") else FAILED
    if as_json:
        print_json(found, code=code)
    else:
        print_lines([*status_lines(found), *_trial_accounts(places, found)])
    raise typer.Exit(code)
