"""Which claims a scope opens, in the shape of EGI Check-In (its service providers' guide, "Claims")."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from tidehub.identity.accounts import Account

Claims = dict[str, Any]


def _profile(account: Account) -> Claims:
    given, _, family = account.name.rpartition(" ")
    names = {"given_name": given, "family_name": family} if given else {"given_name": account.name}
    return {"name": account.name, **names, "preferred_username": account.username}


_BY_SCOPE: dict[str, Callable[[Account], Claims]] = {
    "profile": _profile,
    "email": lambda account: {"email": account.email, "email_verified": True},
    "entitlements": lambda account: {"entitlements": list(account.entitlements)},
    "eduperson_entitlement": lambda account: {"eduperson_entitlement": list(account.entitlements)},
    "eduperson_scoped_affiliation": lambda account: {
        "eduperson_scoped_affiliation": list(account.affiliation)
    },
    "eduperson_assurance": lambda account: {"eduperson_assurance": list(account.assurance)},
    "voperson_id": lambda account: {"voperson_id": account.sub},
}


def userinfo(account: Account, scopes: Collection[str]) -> Claims:
    """Everything userinfo says. Lists stay lists even with one value: EGI's are multi-valued.

    A user without any entitlement gets no entitlement claim at all, as at EGI.
    """
    claims: Claims = {"sub": account.sub}
    for scope, select in _BY_SCOPE.items():
        if scope in scopes:
            claims |= {name: value for name, value in select(account).items() if value != []}
    return claims
