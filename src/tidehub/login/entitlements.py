"""AARC entitlements, the group memberships that research identity providers release: names of `tidehub.login.rule`.

Its grammar is AARC-G069's and needs the standard library alone. Tests hold it against the reference implementation
(`aarc-entitlement`): what it accepts it reads alike, and it refuses what that library lets pass though the grammar
does not (an empty role, a `:` in a role, a second `#`, `group` twice, blanks).
"""

from __future__ import annotations

from tidehub.login.rule import (
    CLAIMS,
    LONGEST,
    MOST,
    Entitlement,
    Groups,
    Requirement,
    Skipped,
    parse,
    parse_requirement,
    read,
)

__all__ = [
    "CLAIMS",
    "LONGEST",
    "MOST",
    "Entitlement",
    "Groups",
    "Requirement",
    "Skipped",
    "parse",
    "parse_requirement",
    "read",
]
