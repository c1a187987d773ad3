"""`tidehub explain-login`: who may enter, by which rule, and what they have then."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidehub.cli.answers import print_json
from tidehub.cli.console import print_lines
from tidehub.cli.options import SiteFile, State, json_of
from tidehub.cli.site_options import file_here, load_given, load_site_or_builtin
from tidehub.errors import FAILED, TidehubError, UsageError

if TYPE_CHECKING:
    from tidehub.local.hub.settings import HubSettings
    from tidehub.local.places import Places
    from tidehub.site.model import Site


def explain_login(
    file: SiteFile = None,
    claims: Annotated[
        Path | None,
        typer.Option("--claims", metavar="FILE", help="A JSON file with what the provider's userinfo says."),
    ] = None,
    token_stdin: Annotated[
        bool,
        typer.Option("--token-stdin", help="Read an access token from standard input and ask the provider."),
    ] = False,
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="NAME", help="A user whom the running platform's hub knows."),
    ] = None,
    state: State = None,
    as_json: Annotated[bool, json_of("the decision, the rule and what follows")] = False,
) -> None:
    """Say whether a user may enter, by which rule, with what.

    Shown are the memberships understood, the entries skipped and why, and the resulting profiles, limits and
    administrator status. Exit code 0: admitted, 1: refused, 2: it cannot be said.

    The site is that of FILE or TIDEHUB_SITE, else of the platform of --state or --user, else tidehub.yaml, else the
    built-in one.
    """
    if (claims is not None) + token_stdin + (user is not None) != 1:
        raise UsageError(
            "nothing says whose login to explain",
            expected="one of --claims FILE, --token-stdin and --user NAME",
        )
    from tidehub.login.claim_sources import claims_of_file
    from tidehub.login.explanation import as_dict, explain, lines

    try:
        running = _settings(state) if user is not None or state is not None else None
        stated = _site(file, running)
        if claims is not None:
            known = claims_of_file(claims)
        elif user is not None:
            known = _of_user(user.lower(), state)
        else:
            known = _of_token(stated, None if file is not None else running)
    except TidehubError as error:
        # 1 says "refused", and nothing else.
        error.exit_code = UsageError.exit_code
        raise
    found = explain(known, stated, name=user.lower() if user is not None else None)
    code = 0 if found.decision.admitted else FAILED
    if as_json:
        print_json(as_dict(found), code=code)
    else:
        print_lines(lines(found))
    raise typer.Exit(code)


def _site(file: Path | None, running: HubSettings | None) -> Site:
    if file is not None:
        return load_given(file).site
    if running is not None:
        return running.site
    return load_site_or_builtin(file_here(None)).site


def _places(state: Path | None) -> Places:
    from tidehub.local.places import Places

    return Places.of(state)


def _settings(state: Path | None) -> HubSettings:
    from tidehub.local.running import running_settings

    return running_settings(_places(state))


def _of_user(name: str, state: Path | None) -> dict[str, Any]:
    from tidehub.local.running import refuse_strangers
    from tidehub.local.secrets import load_secrets
    from tidehub.login.claim_sources import claims_of_user

    settings = _settings(state)
    refuse_strangers(_places(state), settings.hub_port)
    hub = f"http://127.0.0.1:{settings.hub_port}{settings.base_path}hub"
    return claims_of_user(name, hub, load_secrets(_places(state).secrets).operator_token)


def _of_token(site: Site, running: HubSettings | None) -> dict[str, Any]:
    from tidehub.login.claim_sources import LONGEST_TOKEN, claims_of_token
    from tidehub.secrets.secret import Secret

    if sys.stdin.isatty():
        from getpass import getpass

        token = Secret(getpass("Access token (not shown): ").strip())
    else:
        token = Secret(sys.stdin.readline(LONGEST_TOKEN).strip())
    if running is not None:
        return claims_of_token(token, running.login.userinfo_url)
    if site.login.provider == "demo":
        raise UsageError(
            "the embedded provider is asked through a running platform",
            fix="give its state directory with --state, or real claims with --claims",
        )
    from tidehub.login.endpoints import find_endpoints

    return claims_of_token(token, find_endpoints(site.login).userinfo_url)
