"""AARC entitlements: the group memberships that research identity providers release.

    urn:<NID>:<namespace>[:<sub-namespace>]*:group:<group>[:<subgroup>]*[:role=<role>][#<authority>]

The grammar is AARC-G069's, through the `aarc-entitlement` library. What the library lets pass though the grammar
does not (an empty role, a `:` in a role, a second `#`, `group` twice, blanks) is refused before it is asked: an
entitlement that can be read in two ways must never admit anyone. Percent-encodings stay encoded, so `%3A` never
becomes a separator.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

LONGEST = 1024
"""Characters. Longer values are not entitlements."""
MOST = 2000
"""Values of one claim that are looked at; a person has tens of memberships."""
CLAIMS = ("entitlements", "eduperson_entitlement")
"""Claims that carry entitlements: the current name first, then the older one."""

_CHARACTERS = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?#-]|%[0-9A-Fa-f]{2})+", re.ASCII)
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}", re.ASCII)


@dataclass(frozen=True)
class Entitlement:
    """One membership. Two are equal when G069 calls them equivalent: the authority is no part of it."""

    namespace: str
    """`mace:egi.eu` and its sub-namespaces, lower-case."""
    group: str
    subgroups: tuple[str, ...] = ()
    role: str | None = None

    @property
    def canonical(self) -> str:
        """The one spelling of this membership, without authority."""
        parts = ["urn", self.namespace, "group", self.group, *self.subgroups]
        return ":".join(parts) + (f":role={self.role}" if self.role is not None else "")

    @property
    def short(self) -> str:
        """For a person: `vo.pangeo.eu (role member)`."""
        name = ":".join((self.group, *self.subgroups))
        return f"{name} (role {self.role})" if self.role is not None else name

    def satisfies(self, required: Entitlement) -> bool:
        """Whether holding this meets `required`.

        A requirement without a role is met by any role in its group or a subgroup; with a role, by exactly that
        role at exactly that level.
        """
        if (self.namespace, self.group) != (required.namespace, required.group):
            return False
        if required.role is not None:
            return (self.subgroups, self.role) == (required.subgroups, required.role)
        return self.subgroups[: len(required.subgroups)] == required.subgroups

    def __str__(self) -> str:
        return self.canonical


@dataclass(frozen=True)
class Skipped:
    """A value that admits nobody, and why."""

    value: str
    reason: str


@dataclass(frozen=True)
class Groups:
    """What a person's claims say. Skipped values never admit; remarks name what looks like a mistake."""

    understood: tuple[Entitlement, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    remarks: tuple[str, ...] = ()


def parse(text: str) -> Entitlement:
    """The membership that `text` states. Raises `ValueError` with the reason when it states none clearly."""
    if not isinstance(text, str):
        raise ValueError("it is not text")
    if len(text) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST} characters")
    if not text[:4].lower() == "urn:":
        raise ValueError("it does not start with urn:")
    if not _CHARACTERS.fullmatch(text):
        raise ValueError("it holds a character that must be percent-encoded in a URN")
    name, hash_sign, authority = text.partition("#")
    if "#" in authority:
        raise ValueError("it has more than one #")
    if hash_sign and not authority:
        raise ValueError("nothing stands after its #")
    head, separator, tail = name.partition(":group:")
    if not separator:
        raise ValueError("it names no group (there is no ':group:' in it)")
    components = tail.split(":")
    if not all(components):
        raise ValueError("one of its parts is empty")
    *groups, last = components
    if any(part.startswith("role=") for part in groups):
        raise ValueError("its role is not the last part")
    if last.startswith("role=") and not groups:
        raise ValueError("it has a role, but no group")
    if last == "role=":
        raise ValueError("its role is empty")
    if "?" in tail:
        raise ValueError("it holds a ? inside the group")
    if "group" in components or "group" in head.split(":"):
        # The library would read everything before the last ':group:' as namespace.
        raise ValueError("'group' stands in it twice")
    return _parsed(_ENCODED.sub(lambda match: match[0].upper(), text))


def read(claims: Mapping[str, Any]) -> Groups:
    """The memberships in a person's claims: both claim names, a list or a bare text, or nothing at all."""
    understood: dict[Entitlement, None] = {}
    skipped: dict[Skipped, None] = {}
    remarks: dict[str, None] = {}
    for claim in CLAIMS:
        for value in _values(claims.get(claim), claim, skipped):
            try:
                entitlement = parse(value)
            except ValueError as error:
                skipped[Skipped(_shown(value), str(error))] = None
                continue
            understood[entitlement] = None
            last = (entitlement.subgroups or (entitlement.group,))[-1]
            if re.match("role=", last, re.IGNORECASE):
                remarks[
                    f"{entitlement}: {last!r} is read as a subgroup, because 'role=' is written in lower case"
                ] = None
    return Groups(tuple(understood), tuple(skipped), tuple(remarks))


def _values(claim: Any, name: str, skipped: dict[Skipped, None]) -> Iterable[Any]:
    if claim is None:
        return ()
    if isinstance(claim, str):
        return (claim,)
    if not isinstance(claim, (list, tuple, set, frozenset)):
        skipped[Skipped(_shown(claim), f"the claim {name} is neither a list nor text")] = None
        return ()
    values = list(claim)
    if len(values) > MOST:
        skipped[Skipped(f"{len(values) - MOST} values", f"the claim {name} has more than {MOST} values")] = (
            None
        )
    return values[:MOST]


def _parsed(text: str) -> Entitlement:
    # Imported here: its regex engine costs more start-up time than the rest of policy together.
    from aarc_entitlement import G069, ParseError

    try:
        parts = G069(text)
    except ParseError:
        raise ValueError("it does not follow AARC-G069") from None
    namespace = ":".join((parts.namespace_id, parts.delegated_namespace, *parts.subnamespaces))
    return Entitlement(namespace, parts.group, tuple(parts.subgroups), parts.role)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= 200 else f"{text[:197]}..."
