"""A deployed platform, as a check sees it: the site's public address, and a user's token."""

from __future__ import annotations

from tidehub.checks.promises import TOKEN_VARIABLE, promise, scrubber
from tidehub.checks.target import Logs, NoLogs, Target
from tidehub.errors import TidehubError
from tidehub.site.model import Site


def site_target(site: Site, token: str | None, logs: Logs | None = None) -> Target:
    """What a check of the platform at `site.url` must know. Raises `TidehubError` without address or token.

    `token` is a user's hub API token: users sign in at a real identity provider, where a check has no account.
    """
    if site.site.url is None:
        raise TidehubError("site.url is missing", expected="the public address of the platform")
    if not token:
        raise TidehubError(
            f"users sign in at {site.login.title} there, and a check has no account",
            expected="a hub API token of a user, whose server the check may start and stop",
            fix=f"make one on the hub's Token page and give it on standard input or as {TOKEN_VARIABLE}; "
            "everything but the login itself is then checked",
        )
    address = site.site.url if site.site.url.endswith("/") else f"{site.site.url}/"
    return promise(Target(address=address, token=token, scrub=scrubber([token]), logs=logs or NoLogs()), site)
