"""Memberships in the site: entitlements that cannot match, rules and profiles that have no effect."""

from __future__ import annotations

import difflib
from collections.abc import Generator, Iterator
from typing import Any

from tidehub.login.entitled import is_restricted, raised
from tidehub.login.entitlements import Requirement, parse_requirement
from tidehub.site.coherence.dask import check_dask
from tidehub.site.model import Login, Site
from tidehub.site.model.group_rules import DaskFor, GroupRule, More
from tidehub.site.problems import KeyPath, Problem, warning
from tidehub.site.units import format_cores, format_size

_ENTITLEMENT_SCOPES = {"entitlements", "eduperson_entitlement"}
_EGI_NAMESPACE = "mace:egi.eu"
_EXAMPLE = "an entitlement such as urn:mace:egi.eu:group:vo.example.org:role=member"
KNOWN_ASSURANCE = (
    *(f"https://aai.egi.eu/LoA#{level}" for level in ("Low", "Substantial", "High")),
    *(f"https://refeds.org/assurance/IAP/{level}" for level in ("low", "medium", "high", "local-enterprise")),
    *(f"https://refeds.org/assurance/profile/{name}" for name in ("cappuccino", "espresso")),
    *(f"https://refeds.org/assurance/{name}" for name in ("ID/unique", "ID/eppn-unique-no-reassign", "ATP/ePA-1m")),
    "https://refeds.org/assurance",
)  # fmt: skip
"""EGI Check-In's levels (its guide for service providers) and those of the REFEDS Assurance Framework 1.0."""
_HIGHER = (KNOWN_ASSURANCE[:3], KNOWN_ASSURANCE[3:6], KNOWN_ASSURANCE[7:9])
"""Levels that are steps of one ladder, lowest first."""


def check_groups(site: Site) -> list[Problem]:
    """Contradictions among memberships and what they give."""
    return [
        *_memberships(site),
        *_scopes(site),
        *_assurance(site.login),
        *_rules(site),
        *_profiles(site),
        *_access(site),
    ]


# --- memberships ------------------------------------------------------------------------------


def _lists(site: Site) -> Iterator[tuple[KeyPath, tuple[str, ...]]]:
    """Every list of entitlements in the site."""
    yield ("login", "allow", "groups"), site.login.allow.groups
    yield ("login", "admins", "groups"), site.login.admins.groups
    for index, profile in enumerate(site.notebooks.profiles):
        if profile.allow is not None:
            yield ("notebooks", "profiles", index, "allow", "groups"), profile.allow.groups


def _memberships(site: Site) -> Iterator[Problem]:
    egi = site.login.provider == "egi-check-in"
    for path, groups in _lists(site):
        seen: dict[Requirement, int] = {}
        for index, group in enumerate(groups):
            known = yield from _membership(group, (*path, index), egi=egi)
            if known is not None and (first := seen.setdefault(known, index)) != index:
                yield warning(f"it says the same as entry {first}", (*path, index), fix="remove one of them")
    of_rules: dict[Requirement, int] = {}
    for index, group_rule in enumerate(site.login.groups):
        where: KeyPath = ("login", "groups", index, "group")
        known = yield from _membership(group_rule.group, where, egi=egi)
        if known is not None and (first := of_rules.setdefault(known, index)) != index:
            what = f"login.groups[{first}] is about the same membership"
            yield warning(what, where, fix="join the two: both hold, and the larger value counts")


def _membership(group: str, path: KeyPath, *, egi: bool) -> Generator[Problem, None, Requirement | None]:
    try:
        known = parse_requirement(group)
    except ValueError as error:
        yield Problem(f"{group!r} can never match: {error}", path, expected=_EXAMPLE)
        return None
    near = difflib.SequenceMatcher(None, known.namespace, _EGI_NAMESPACE).ratio()
    if egi and known.namespace != _EGI_NAMESPACE and near > 0.7:
        yield warning(
            f"EGI Check-In's own groups begin with urn:{_EGI_NAMESPACE}:group:, and this with "
            f"urn:{known.namespace}:group:",
            path,
            fix=f"did you mean urn:{_EGI_NAMESPACE}:group:{known.canonical.partition(':group:')[2]}?",
        )
    if known.role is None and (roleish := [name for name in known.path if "=" in name]):
        yield warning(
            f"{roleish[-1]!r} is the name of a group here, not a role",
            path,
            expected=f"a role is written at the end, as in {known.canonical.rpartition(':')[0]}:role=member",
        )
    return known


def _scopes(site: Site) -> Iterator[Problem]:
    login = site.login
    finding = Problem if login.provider == "egi-check-in" else warning
    asked = set(login.scopes)
    decided = any(groups for _, groups in _lists(site)) or login.groups
    if decided and not _ENTITLEMENT_SCOPES & asked:
        yield finding(
            "groups decide who may enter, but no scope is asked for that releases them",
            ("login", "scopes"),
            expected="entitlements, or eduperson_entitlement where the client is registered for the older name",
        )
    if login.allow.assurance and "eduperson_assurance" not in asked:
        yield finding(
            "a level of assurance is required, but no scope is asked for that releases it",
            ("login", "scopes"),
            expected="eduperson_assurance, which the client must be registered for too",
        )


def _assurance(login: Login) -> Iterator[Problem]:
    wanted = login.allow.assurance
    for index, level in enumerate(wanted):
        path: KeyPath = ("login", "allow", "assurance", index)
        if level not in KNOWN_ASSURANCE:
            near = difflib.get_close_matches(level, KNOWN_ASSURANCE, n=1, cutoff=0.8)
            fix = f"did you mean {near[0]}?" if near else None
            what = (
                f"{level!r} is not a level that EGI Check-In or REFEDS names; it is compared letter by letter"
            )
            yield warning(what, path, fix=fix)
        for ladder in _HIGHER:
            if level in ladder:
                higher = [step for step in ladder[ladder.index(level) + 1 :] if step not in wanted]
                if higher:
                    yield warning(
                        "levels are compared letter by letter, so a better one alone does not meet it",
                        path,
                        fix=f"add {', '.join(higher)}, unless your provider always sends the lower levels too",
                    )
        if level == "https://refeds.org/assurance/IAP/low" and login.provider == "egi-check-in":
            yield warning("EGI Check-In gives it to every account, so it keeps nobody out", path)


# --- what groups have -------------------------------------------------------------------------


def _rules(site: Site) -> Iterator[Problem]:
    known = [name for profile in site.notebooks.profiles for name in (profile.slug, profile.name)]
    for index, group_rule in enumerate(site.login.groups):
        path: KeyPath = ("login", "groups", index)
        for place, name in enumerate(group_rule.profiles):
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                slugs = ", ".join(profile.slug for profile in site.notebooks.profiles)
                fix = f"did you mean {near[0]}?" if near else None
                yield Problem(
                    f"profile {name!r} does not exist", (*path, "profiles", place), expected=slugs, fix=fix
                )
        if not (group_rule.profiles or group_rule.notebooks or group_rule.dask):
            what = "this rule gives its group nothing"
            yield warning(what, path, fix="add profiles:, notebooks: or dask:, or remove the rule")
        yield from _notebooks(site, group_rule, path)
        if group_rule.dask is not None:
            yield from _dask(site, group_rule.dask, (*path, "dask"))


def _notebooks(site: Site, group_rule: GroupRule, path: KeyPath) -> Iterator[Problem]:
    more = group_rule.notebooks
    if more is None:
        return
    profiles = site.notebooks.profiles
    sizes: list[tuple[str, More[Any] | None, list[Any], Any]] = [
        ("cpu", more.cpu, [site.notebooks.cpu_of(profile).limit for profile in profiles], format_cores),
        ("memory", more.memory, [site.notebooks.memory_of(profile).limit for profile in profiles], format_size),
    ]  # fmt: skip
    for name, amount, usual, shown in sizes:
        if amount is None:
            continue
        where = (*path, "notebooks", name)
        if amount.guarantee is not None and amount.guarantee > amount.limit:
            what = f"the guarantee {shown(amount.guarantee)} is more than the limit {shown(amount.limit)}"
            yield Problem(what, (*where, "guarantee"), expected=f"at most {shown(amount.limit)}")
        if amount.limit <= min(usual):
            what = f"everybody has {shown(min(usual))} already, and of two values the larger counts"
            yield warning(what, (*where, "limit"), expected=f"more than {shown(min(usual))}")


def _dask(site: Site, more: DaskFor, path: KeyPath) -> Iterator[Problem]:
    dask = site.dask
    if dask.engine == "none":
        yield warning("this site has no clusters (dask.engine is none)", path, fix="remove it")
        return
    if more.enabled and dask.access == "everyone":
        yield warning(
            "everybody may start clusters already",
            (*path, "enabled"),
            fix="add access: groups below dask: to keep clusters for the groups that are enabled",
        )
    if dask.access == "groups" and not more.enabled:
        yield warning(
            "these limits count only for users who may start clusters by another rule",
            path,
            fix="add enabled: true, if this group may start clusters",
        )
    everybodys = {problem.path for problem in check_dask(dask)}
    theirs = raised(dask, more)
    if theirs == dask and (more.worker or more.cluster or more.per_user):
        yield warning("no limit in it is larger than everybody's, and of two values the larger counts", path)
    for problem in check_dask(theirs):
        if problem.severity == "error" and problem.path not in everybodys:
            yield Problem(
                f"with what this group has beyond everybody: {problem.what}",
                path,
                expected=problem.expected,
                fix=problem.fix,
            )


def _profiles(site: Site) -> Iterator[Problem]:
    profiles = site.notebooks.profiles
    for index, profile in enumerate(profiles):
        if profile.allow is not None and not (profile.allow.users or profile.allow.groups):
            yield Problem(
                f"no user may start {profile.name}",
                ("notebooks", "profiles", index, "allow"),
                expected="users: [...] or groups: [...]",
                fix="say who may start it, or remove allow: for everybody",
            )
    free = [profile for profile in profiles if not is_restricted(site, profile)]
    if not free:
        yield warning(
            "every profile is for some users only: whoever else may enter can start no server",
            ("notebooks", "profiles"),
        )
    for index, profile in enumerate(profiles):
        if profile.default and free and profile not in free:
            yield warning(
                f"the default profile is for some users only; for others {free[0].name!r} is preselected",
                ("notebooks", "profiles", index, "default"),
            )


def _access(site: Site) -> Iterator[Problem]:
    if site.dask.engine == "none" or site.dask.access == "everyone":
        return
    if not any(one.dask is not None and one.dask.enabled for one in site.login.groups):
        yield Problem(
            "only groups may start clusters, and no group is enabled",
            ("dask", "access"),
            expected="a rule in login.groups with dask: {enabled: true}",
            fix="add one, or write access: everyone, or engine: none",
        )
