"""The platform on this machine, as a check sees it: its state directory gives the address and a demo account."""

from __future__ import annotations

from collections.abc import Callable

from tidehub.capacity.fit import workers_that_fit
from tidehub.checks.log_lines import LogFiles
from tidehub.checks.promises import TOKEN_VARIABLE, promise, scrubber
from tidehub.checks.target import Account, Target
from tidehub.errors import TidehubError
from tidehub.local.hub.settings import HubSettings
from tidehub.local.identity_files import trial_passwords
from tidehub.local.places import Places
from tidehub.local.running import running_settings
from tidehub.local.secrets import load_secrets
from tidehub.local.trial_roles import decisions
from tidehub.login.entitled import largest_servers

MEMBERS = ("alice", "bob", "olga", "ada")
"""The demo users whom a site's rule for a group admits (`tidehub.identity.demo_accounts`), the preferred one first."""


def local_target(places: Places, *, ask_token: Callable[[str], str | None] = lambda variable: None) -> Target:
    """What a check of the platform of `places` must know. Raises `TidehubError` when nothing runs there.

    `ask_token` is called only where users sign in at a real identity provider: it gets the name of the
    environment variable and returns a user's hub API token.
    """
    settings = running_settings(places)
    accounts = _trial_accounts(places, settings)
    token = None if accounts else ask_token(TOKEN_VARIABLE)
    if not accounts and not token:
        raise TidehubError(
            f"users sign in at {settings.login.service_name} here, and a check has no account there",
            expected="a hub API token of a user, whose server the check may start and stop",
            fix=f"make one on the hub's Token page and give it on standard input or as {TOKEN_VARIABLE}; "
            "everything but the login itself is then checked",
        )
    site = settings.site
    servers = {server.profile.slug: server.memory.guarantee for server in largest_servers(site)}
    room = settings.capacity.memory
    hidden = [secret.reveal() for secret in load_secrets(places.secrets)]
    hidden += [account.password for account in accounts] + ([token] if token else [])
    return promise(
        Target(
            address=settings.public_url,
            accounts=accounts,
            token=token,
            certificate=places.proxy_certificate if site.machine.tls else None,
            fitting=lambda profile: workers_that_fit(site, room, servers.get(profile, 0)),
            logs=LogFiles(places.logs),
            scrub=scrubber(hidden),
        ),
        site,
    )


def _trial_accounts(places: Places, settings: HubSettings) -> tuple[Account, ...]:
    if settings.identity_url is None:
        return ()
    passwords = trial_passwords(places)
    rule = decisions(settings.site)
    # One whom the site blocks comes last: a check that was not told whom to be does not fail by that.
    members = sorted(MEMBERS, key=lambda name: not rule[name].admitted)
    return tuple(Account(name, passwords[name]) for name in members if name in passwords)
