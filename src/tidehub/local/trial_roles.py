"""Which demo account may do what at a site: decided by the site's own rule, not by what the account was made for."""

from __future__ import annotations

from typing import NamedTuple

from tidehub.identity.demo_accounts import USERS, demo_claims
from tidehub.login.explanation import explain
from tidehub.login.rule import Decision
from tidehub.site.model import Login, Site


class Asked(NamedTuple):
    """What a site asks of its users: what demo accounts are made for."""

    group: str | None
    admin_group: str | None
    assurance: tuple[str, ...]


def asked(login: Login) -> Asked:
    """The first group that admits, and the first that makes an administrator."""
    return Asked(
        login.allow.groups[0] if login.allow.groups else None,
        login.admins.groups[0] if login.admins.groups else None,
        tuple(login.allow.assurance),
    )


def trial_roles(site: Site) -> dict[str, str]:
    """One line for each demo account: whom it stands for, and what the site lets that user do."""
    found = {}
    decided = decisions(site)
    for user in USERS:
        decision = decided[user.username]
        may = "is refused" if not decision.admitted else "administrator" if decision.admin else "may enter"
        found[user.username] = f"{user.part}: {may}"
    return found


def decisions(site: Site) -> dict[str, Decision]:
    """What the site's rule says of each demo account."""
    made = asked(site.login)
    claims = demo_claims(
        made.group,
        admin_group=made.admin_group,
        assurance=made.assurance,
        scopes=(*site.login.scopes, "profile"),
    )
    return {user.username: explain(claims[user.username], site).decision for user in USERS}
