"""Who may enter, as what, and why: the site's rule applied to a person's claims. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tidehub.login.entitlements import CLAIMS, Entitlement, Groups, Skipped, parse, read
from tidehub.site.model import Login

LONGEST_NAME = 255
"""Characters of a user or group name in JupyterHub's database (its orm: Unicode(255))."""


@dataclass(frozen=True)
class Decision:
    """The outcome for one person, nothing in it secret. `groups` are canonical entitlements without authority."""

    admitted: bool
    admin: bool
    username: str
    groups: tuple[str, ...]
    rule: str
    """The key of the site that decided: `login.allow.groups`, `login.admins.users`, ... or empty."""
    reason: str
    """One sentence for the person, and for the log."""
    skipped: tuple[Skipped, ...] = ()
    remarks: tuple[str, ...] = ()


def decide(claims: Mapping[str, Any], login: Login) -> Decision:
    """Apply the site's admission rule. Never raises for claims: what is not understood does not admit."""
    groups = read(claims)
    username, fault = username_of(claims, login.username_claim)
    if fault:
        return _decision(False, False, "", groups, "", fault)
    administers = _admin_rule(username, groups, login)
    if administers is not None:
        rule, reason = administers
        return _decision(True, True, username, groups, rule, reason)
    rule, reason = _allow_rule(username, groups, login)
    if rule:
        return _decision(True, False, username, groups, rule, reason)
    return _decision(False, False, username, groups, "", _refusal(username, groups, login))


def username_of(claims: Mapping[str, Any], claim: str) -> tuple[str, str]:
    """The hub's user name and an empty text, or nothing and why there is none.

    Lower-cased, as JupyterHub's `normalize_username` does: otherwise `Alice` in the rule and `alice` in the hub
    would differ. `:` is refused because dask-gateway names services `service:name`, `/` because the hub refuses it.
    """
    value = claims.get(claim)
    if value is None or value == "":
        return "", (
            f"The identity provider sent no {claim}, which this site uses as the user name. "
            "Its administrator should check the scopes that are asked for."
        )
    name = value.lower() if isinstance(value, str) else ""
    if (
        not name
        or len(name) > LONGEST_NAME
        or not name.isprintable()
        or name != name.strip()
        or name in (".", "..")
        or any(character in name for character in "/:\\")
    ):
        return "", f"The {claim} that the identity provider sent cannot be used as a user name."
    return name, ""


def _decision(admitted: bool, admin: bool, username: str, groups: Groups, rule: str, reason: str) -> Decision:
    names = tuple(sorted(entitlement.canonical for entitlement in groups.understood))
    fitting = tuple(name for name in names if len(name) <= LONGEST_NAME)
    too_long = tuple(
        Skipped(name[:200], "it is too long for a group name of the hub")
        for name in names
        if name not in fitting
    )
    return Decision(
        admitted, admin, username, fitting, rule, reason, groups.skipped + too_long, groups.remarks
    )


def _admin_rule(username: str, groups: Groups, login: Login) -> tuple[str, str] | None:
    if username in _names(login.admins.users):
        return "login.admins.users", f"{username} is named as an administrator."
    held = _match(groups, login.admins.groups)
    if held is not None:
        return "login.admins.groups", f"{username} is an administrator as a holder of {held.short}."
    return None


def _allow_rule(username: str, groups: Groups, login: Login) -> tuple[str, str]:
    allow = login.allow
    if username in _names(allow.users):
        return "login.allow.users", f"{username} is named among those who may enter."
    held = _match(groups, allow.groups)
    if held is not None:
        return "login.allow.groups", f"{username} may enter as a holder of {held.short}."
    if allow.everyone:
        return "login.allow.everyone", "Everyone whom the identity provider knows may enter."
    return "", ""


def _refusal(username: str, groups: Groups, login: Login) -> str:
    required = [
        entitlement for entitlement in map(_parse_rule, login.allow.groups) if entitlement is not None
    ]
    if not required:
        return f"{username} is not among the people who may enter this site."
    wanted = _one_of(sorted({entitlement.short for entitlement in required}))
    sentence = f"This site admits members of {wanted}, and {username} does not hold that membership."
    if not groups.understood and not groups.skipped:
        sentence += f" The identity provider sent no memberships at all (neither {' nor '.join(CLAIMS)})."
    else:
        sentence += _near_miss(groups, required)
    return sentence


def _near_miss(groups: Groups, required: list[Entitlement]) -> str:
    known = {(entitlement.namespace, entitlement.group) for entitlement in required}
    near = [held.short for held in groups.understood if (held.namespace, held.group) in known]
    if near:
        return f" What was found there: {', '.join(sorted(set(near))[:5])}."
    if not groups.understood:
        return " The memberships that the identity provider sent could not be understood."
    return ""


def _match(groups: Groups, rules: tuple[str, ...]) -> Entitlement | None:
    for rule in rules:
        required = _parse_rule(rule)
        for held in groups.understood:
            if required is not None and held.satisfies(required):
                return held
    return None


@lru_cache(maxsize=256)
def _parse_rule(rule: str) -> Entitlement | None:
    # A rule that cannot be read admits nobody; coherence refuses such a site before it gets here.
    try:
        return parse(rule)
    except ValueError:
        return None


def _names(users: tuple[str, ...]) -> frozenset[str]:
    return frozenset(user.lower() for user in users)


def _one_of(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
