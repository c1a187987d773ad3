"""Who may enter: the grammar of memberships, and the site's rule applied to a user's claims.

This module needs the standard library alone, because it also runs inside the upstream hub image, where nothing of
ours is installed. The rule is a plain mapping, as JSON has it:

    {"username_claim": TEXT,
     "allow": {"users": [NAME], "groups": [GROUP], "everyone": BOOL, "assurance": [URI]},
     "admins": {"users": [NAME], "groups": [GROUP]}}

A membership (AARC-G069) is

    urn:<NID>:<namespace>[:<sub-namespace>]*:group:<group>[:<subgroup>]*[:role=<role>][#<authority>]

and a GROUP of the rule is written alike:

- `...:group:vo`               every role in the group and in its subgroups,
- `...:group:vo:role=member`   exactly that role in exactly that group,
- `...:group:vo:*`             the same as the first, written out,
- `...:group:vo:*:role=admin`  that role in the group or in any of its subgroups,
- `...:group:*`                every group of that namespace.

Parts are compared whole: `vo:*` never admits a member of `vox`. What can be read in two ways admits no user.
Percent-encodings stay encoded, so `%3A` never becomes a separator. The authority is never compared (G069).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote

LONGEST = 1024
"""Characters. Longer values are not entitlements."""
MOST = 2000
"""Values of one claim that are looked at; a user has tens of memberships."""
LONGEST_NAME = 255
"""Characters of a user or group name in JupyterHub's database (its orm: Unicode(255))."""
CLAIMS = ("entitlements", "eduperson_entitlement")
"""Claims that carry memberships: the current name first, then the older one."""
ASSURANCE_CLAIM = "eduperson_assurance"

_CHARACTERS = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?#-]|%[0-9A-Fa-f]{2})+", re.ASCII)
_NAME = re.compile(r"[a-z0-9_][a-z0-9._@+=|~-]*", re.ASCII)
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}", re.ASCII)
_HEAD = re.compile(
    r"urn:(?P<nid>[a-z0-9][a-z0-9-]*):(?P<namespace>[^:?#]+(?::[^:?#]+)*)"
    r"(?:\?\+[^?#:]+)?(?:\?=[^#:]+)?",  # RFC 8141's r- and q-component say nothing about the name
    re.ASCII | re.IGNORECASE,
)


class Entitlement(NamedTuple):
    """One membership. Two are equal when G069 calls them equivalent: the authority is not a part of it."""

    namespace: str
    """`mace:egi.eu` and its sub-namespaces, lower-case."""
    group: str
    subgroups: tuple[str, ...] = ()
    role: str | None = None

    @property
    def path(self) -> tuple[str, ...]:
        """The group and its subgroups, outermost first."""
        return (self.group, *self.subgroups)

    @property
    def canonical(self) -> str:
        """The one spelling of this membership, without authority."""
        return _spelling(self.namespace, self.path, self.role)

    @property
    def short(self) -> str:
        """As text: `vo.pangeo.eu (role member)`."""
        name = ":".join(self.path)
        return f"{name} (role {self.role})" if self.role is not None else name

    def __str__(self) -> str:
        return self.canonical


class Requirement(NamedTuple):
    """What a GROUP of the rule asks for. `path` is empty where every group of the namespace will do."""

    namespace: str
    path: tuple[str, ...]
    below: bool
    """Whether a membership in a subgroup will do."""
    role: str | None = None
    """None: any role, or none."""

    @property
    def canonical(self) -> str:
        """The one spelling of this requirement."""
        star = self.below and (self.role is not None or not self.path)
        return _spelling(self.namespace, (*self.path, *(("*",) if star else ())), self.role)

    @property
    def short(self) -> str:
        """As text: `vo.pangeo.eu (role member)`."""
        name = ":".join(self.path) or f"any group of {self.namespace}"
        if self.role is None:
            return name
        within = " or a subgroup" if self.below and self.path else ""
        return f"{name}{within} (role {self.role})"

    def met_by(self, held: Entitlement) -> bool:
        """Whether holding this membership meets the requirement."""
        if held.namespace != self.namespace or self.role not in (None, held.role):
            return False
        return held.path[: len(self.path)] == self.path if self.below else held.path == self.path


class Skipped(NamedTuple):
    """A value that never admits a user, and why."""

    value: str
    reason: str


class Groups(NamedTuple):
    """What a user's claims say. Skipped values never admit; remarks name what looks like a mistake."""

    understood: tuple[Entitlement, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    remarks: tuple[str, ...] = ()


class Decision(NamedTuple):
    """The outcome for one user, nothing in it secret. `groups` are canonical memberships without authority."""

    admitted: bool
    admin: bool
    username: str
    groups: tuple[str, ...]
    rule: str
    """The key of the site that decided: `login.allow.groups`, `login.admins.users`, ... or empty."""
    reason: str
    """One or more sentences for the user, and for the log."""
    skipped: tuple[Skipped, ...] = ()
    remarks: tuple[str, ...] = ()
    assurance: tuple[str, ...] = ()
    """What the identity provider says about how well it knows the user."""


# --- the grammar ------------------------------------------------------------------------------


def parse(text: Any) -> Entitlement:
    """The membership that `text` states. Raises `ValueError` with the reason when it states none clearly."""
    head, components = _taken_apart(text)
    if "?" in "".join(components):
        raise ValueError("it holds a ? inside the group")
    role = None
    if components[-1].startswith("role="):
        role = components.pop()[len("role=") :]
        if not components:
            raise ValueError("it has a role, but no group")
        if not role:
            raise ValueError("its role is empty")
    if any(part.startswith("role=") for part in components):
        raise ValueError("its role is not the last part")
    if "group" in (*components, *head.split(":")):
        # Read from the right, everything before the last ':group:' would be namespace, and from the left, group.
        raise ValueError("'group' stands in it twice")
    found = _HEAD.fullmatch(head)
    if found is None:
        raise ValueError("it does not follow AARC-G069: a namespace such as urn:mace:egi.eu comes first")
    namespace = f"{found['nid']}:{found['namespace']}".lower()
    return Entitlement(namespace, components[0], tuple(components[1:]), role)


def parse_requirement(text: Any) -> Requirement:
    """What a GROUP of the rule asks for. Raises `ValueError` with the reason when that is not clear."""
    head, components = _taken_apart(text)
    if "*" in head or any("*" in part and part != "*" for part in components):
        raise ValueError("a * stands for whole parts only, as in ...:group:vo.example.org:*")
    starred = "*" in components
    if starred:
        place = components.index("*")
        after = components[place + 1 :]
        if len(after) > 1 or (after and not after[0].startswith("role=")):
            raise ValueError("nothing but a role may stand after its *")
        if any(part.startswith("role=") for part in components[:place]):
            raise ValueError("its role is not the last part")
        del components[place]
    everything = starred and not [part for part in components if not part.startswith("role=")]
    known = parse(":".join([head, "group", *(["any"] if everything else []), *components]))
    path = () if everything else known.path
    return Requirement(known.namespace, path, starred or known.role is None, known.role)


def _taken_apart(text: Any) -> tuple[str, list[str]]:
    if not isinstance(text, str):
        raise ValueError("it is not text")
    if len(text) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST} characters")
    if text[:4].lower() != "urn:":
        raise ValueError("it does not start with urn:")
    if not _CHARACTERS.fullmatch(text):
        raise ValueError("it holds a character that must be percent-encoded in a URN")
    name, hash_sign, authority = text.partition("#")
    if "#" in authority:
        raise ValueError("it has more than one #")
    if hash_sign and not authority:
        raise ValueError("nothing stands after its #")
    # G069: two hexadecimal digits mean the same in either letter case.
    name = _ENCODED.sub(lambda match: match[0].upper(), name)
    head, separator, tail = name.partition(":group:")
    if not separator:
        raise ValueError(f"it names no group ({_instead_of_a_group(name)})")
    components = tail.split(":")
    if not all(components):
        raise ValueError("one of its parts is empty")
    return head, components


def _instead_of_a_group(name: str) -> str:
    if ":res:" in name:
        return "it is a capability, AARC-G027, which this site does not use"
    if ":group:" in name.lower():
        return "':group:' is written in lower case"
    return "it has no ':group:'"


def _spelling(namespace: str, path: Iterable[str], role: str | None) -> str:
    parts = ["urn", namespace, "group", *path]
    return ":".join(parts) + (f":role={role}" if role is not None else "")


# --- the claims -------------------------------------------------------------------------------


def read(claims: Any) -> Groups:
    """The memberships in a user's claims: both claim names, a list or a bare text, or nothing at all."""
    understood: dict[Entitlement, None] = {}
    skipped: dict[Skipped, None] = {}
    remarks: dict[str, None] = {}
    for claim in CLAIMS:
        for value in _values(_of(claims, claim), claim, skipped):
            try:
                entitlement = parse(value)
            except ValueError as error:
                skipped[Skipped(shown(value), str(error))] = None
                continue
            understood[entitlement] = None
            last = entitlement.path[-1]
            if re.match("role=", last, re.IGNORECASE):
                remarks[
                    f"{entitlement}: {last!r} is read as a subgroup, because 'role=' is written in lower case"
                ] = None
    return Groups(tuple(understood), tuple(skipped), tuple(remarks))


def read_assurance(claims: Any) -> tuple[tuple[str, ...], tuple[Skipped, ...]]:
    """The levels of assurance in a user's claims, a list or a bare text; and what could not be used."""
    found: dict[str, None] = {}
    skipped: dict[Skipped, None] = {}
    for value in _values(_of(claims, ASSURANCE_CLAIM), ASSURANCE_CLAIM, skipped):
        if not isinstance(value, str):
            skipped[Skipped(shown(value), "it is not text, so it is not a level of assurance")] = None
        elif not value or len(value) > LONGEST or not value.isprintable() or value != value.strip():
            skipped[Skipped(shown(value), "it cannot be a level of assurance")] = None
        else:
            found[value] = None
    return tuple(found), tuple(skipped)


def username_of(claims: Any, claim: str) -> tuple[str, str]:
    """The hub's user name and an empty text, or nothing and why there is none.

    Lower-cased, as JupyterHub's `normalize_username` does: otherwise `Alice` in the rule and `alice` in the hub
    would differ. Plain ASCII only, tested before the letters are made small: the Kelvin sign becomes `k`, and
    letters of other scripts look like somebody else's. `:` would be a service at dask-gateway; `/`, `%` and `..`
    tamper with paths.
    """
    value = _of(claims, claim)
    if value is None or value == "":
        return "", (
            f"The identity provider sent no {claim}, which this site uses as the user name. "
            "Its administrator should check the scopes that are asked for."
        )
    name = value.lower() if isinstance(value, str) and value.isascii() else ""
    if len(name) > LONGEST_NAME or not _NAME.fullmatch(name) or ".." in name:
        return "", (
            f"The {claim} that the identity provider sent cannot be used as a user name. "
            "The administrators of this site can state another one (login.names)."
        )
    return name, ""


def _of(claims: Any, name: str) -> Any:
    return claims.get(name) if isinstance(claims, Mapping) else None


def _values(claim: Any, name: str, skipped: dict[Skipped, None]) -> Sequence[Any]:
    if claim is None:
        return ()
    if isinstance(claim, str):
        return (claim,)
    if not isinstance(claim, (list, tuple, set, frozenset)):
        skipped[Skipped(shown(claim), f"the claim {name} is neither a list nor text")] = None
        return ()
    values = list(claim)
    if len(values) > MOST:
        reason = f"the claim {name} has more than {MOST} values"
        skipped[Skipped(f"{len(values) - MOST} values", reason)] = None
    return values[:MOST]


def shown(value: Any) -> str:
    """Something of a stranger's for a log or a terminal: one line, nothing invisible, 200 characters."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= 200 else f"{text[:197]}..."


# --- the decision -----------------------------------------------------------------------------


def decide(claims: Any, rule: Mapping[str, Any]) -> Decision:
    """Apply the site's rule to claims. Never raises for claims: what is not understood does not admit."""
    groups = read(claims)
    assurance, unusable = read_assurance(claims)
    allow, admins = rule.get("allow") or {}, rule.get("admins") or {}
    username, fault = username_of(claims, rule["username_claim"])
    key, reason, admin = "", fault, False
    if not fault:
        key, reason = _admitting(username, groups.understood, admins, "login.admins")
        admin = bool(key)
        if not key:
            key, reason = _admitting(username, groups.understood, allow, "login.allow")
        if not key:
            reason = _missing_membership(username, groups, allow)
        wanted = texts(allow.get("assurance"))
        if wanted and not set(wanted) & set(assurance):
            missing = _missing_assurance(username, wanted, assurance)
            key, admin, reason = "", False, missing if key else f"{reason} {missing}"
    names = sorted(entitlement.canonical for entitlement in groups.understood)
    too_long = [
        Skipped(f"{name[:197]}...", "it is too long for a group name of the hub")
        for name in names
        if len(name) > LONGEST_NAME
    ]
    required = requirements((*texts(allow.get("groups")), *texts(admins.get("groups"))))
    return Decision(
        admitted=bool(key),
        admin=admin,
        username=username,
        groups=tuple(name for name in names if len(name) <= LONGEST_NAME),
        rule=key,
        reason=reason,
        skipped=(*groups.skipped, *too_long, *unusable),
        remarks=(*groups.remarks, *look_alikes(groups.understood, required, roles=not key)),
        assurance=assurance,
    )


def holder(held: Iterable[Entitlement], groups: Any) -> Entitlement | None:
    """The first of the memberships `held` that meets one of the rule's GROUPs; None when none does."""
    memberships = tuple(held)
    for requirement in requirements(texts(groups)):
        for membership in memberships:
            if requirement.met_by(membership):
                return membership
    return None


def named(username: str, users: Any) -> bool:
    """Whether the rule's list of user names has this one. The hub's user names are lower-case."""
    return bool(username) and username in {user.lower() for user in texts(users)}


def texts(value: Any) -> tuple[str, ...]:
    """A list of texts in the rule; one text alone is a list of one."""
    if isinstance(value, str):
        return (value,)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, (list, tuple)) else ()


def _admitting(
    username: str, held: tuple[Entitlement, ...], section: Mapping[str, Any], key: str
) -> tuple[str, str]:
    admins = key.endswith("admins")
    if named(username, section.get("users")):
        what = "as an administrator" if admins else "among those who may enter"
        return f"{key}.users", f"{username} is named {what}."
    membership = holder(held, section.get("groups"))
    if membership is not None:
        what = "is an administrator" if admins else "may enter"
        return f"{key}.groups", f"{username} {what} as a holder of {membership.short}."
    if not admins and section.get("everyone") is True:
        return f"{key}.everyone", "Everyone whom the identity provider knows may enter."
    return "", ""


def _missing_membership(username: str, groups: Groups, allow: Mapping[str, Any]) -> str:
    required = requirements(texts(allow.get("groups")))
    if not required:
        return f"{username} is not among the users who may enter this site."
    wanted = _one_of(sorted({requirement.short for requirement in required}))
    sentence = f"This site admits members of {wanted}, and {username} does not hold that membership."
    near = sorted({held.short for held in groups.understood if any(_near(held, one) for one in required)})
    if not groups.understood and not groups.skipped:
        return (
            f"{sentence} The identity provider sent no memberships at all (neither {' nor '.join(CLAIMS)})."
        )
    if near:
        return f"{sentence} What was found there: {', '.join(near[:5])}."
    if not groups.understood:
        return f"{sentence} The memberships that the identity provider sent could not be understood."
    return sentence


def _missing_assurance(username: str, wanted: Sequence[str], held: Sequence[str]) -> str:
    sent = f"says {', '.join(sorted(held)[:8])}" if held else f"says nothing ({ASSURANCE_CLAIM} is empty)"
    return (
        f"This site asks for an account whose owner's identity was checked ({_one_of(list(wanted))}); "
        f"for {username} the identity provider {sent}. "
        "An account of a home organisation usually has it, a social one has not."
    )


def _near(held: Entitlement, required: Requirement) -> bool:
    return held.namespace == required.namespace and held.path[:1] == required.path[:1]


def look_alikes(
    held: Iterable[Entitlement], required: Iterable[Requirement], *, roles: bool = True
) -> tuple[str, ...]:
    """Memberships that look like one the rule asks for, and are another: mistakes, or attempts.

    Without `roles`, other roles in the right group are not among them: holders of one have more of these.
    """
    wanted = tuple(required)
    found: list[str] = []
    for membership in held:
        if any(one.met_by(membership) for one in wanted):
            continue
        for one in wanted:
            why = _likeness(membership, one, roles)
            if why:
                found.append(f"{shown(membership.canonical)} is not {one.canonical}: {why}")
                break
    return tuple(found)


def _likeness(held: Entitlement, required: Requirement, roles: bool) -> str:
    if not required.path:
        return ""
    same_names = held.path[: len(required.path)] == required.path
    if held.namespace != required.namespace:
        return f"its namespace is {held.namespace}" if same_names else ""
    if same_names:
        if required.role is None or not roles:
            return ""
        if held.path == required.path:
            return f"its role is {held.role}" if held.role is not None else "it states no role"
        return "it is about a subgroup" if held.role == required.role else ""
    ours, theirs = ":".join(required.path), ":".join(held.path)
    if theirs.lower() == ours.lower():
        return "capital letters make another group"
    if "%" in ours + theirs and unquote(theirs).lower().startswith(unquote(ours).lower()):
        return "percent-encoded characters make another group"
    if theirs.lower().startswith(ours.lower()):
        return "its group has a longer name, and is not a subgroup"
    return ""


def requirements(groups: Iterable[str]) -> list[Requirement]:
    """What the rule's GROUPs ask for; those that cannot be read are left out."""
    found = (_requirement(group) for group in groups)
    return [requirement for requirement in found if requirement is not None]


@lru_cache(maxsize=1024)
def _requirement(group: str) -> Requirement | None:
    # A rule that cannot be read admits no user; `tidehub validate` refuses such a site before it gets here.
    try:
        return parse_requirement(group)
    except ValueError:
        return None


def _one_of(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
