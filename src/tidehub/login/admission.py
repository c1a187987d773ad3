"""Who may enter, as what, and why: the site's rule applied to a user's claims. Pure; `rule.py` decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidehub.login import rule
from tidehub.login.rule import LONGEST_NAME, Decision, username_of
from tidehub.site.model import Login

__all__ = ["LONGEST_NAME", "Decision", "decide", "rule_of", "username_of"]


def decide(claims: Mapping[str, Any], login: Login) -> Decision:
    """Apply the site's admission rule. Never raises for claims: what is not understood does not admit."""
    return rule.decide(claims, rule_of(login))


def rule_of(login: Login) -> dict[str, Any]:
    """The site's admission rule as `tidehub.login.rule` takes it: plain, and the same after JSON."""
    return {
        "username_claim": login.username_claim,
        "allow": {
            "users": list(login.allow.users),
            "groups": list(login.allow.groups),
            "everyone": login.allow.everyone,
            "assurance": list(login.allow.assurance),
        },
        "admins": {"users": list(login.admins.users), "groups": list(login.admins.groups)},
    }
