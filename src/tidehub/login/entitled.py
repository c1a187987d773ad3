"""What an admitted user has: profiles, sizes of servers, Dask and its limits. Pure, and the one truth about it.

The hub's spawn page and spawner, the scopes of a server's token, the gateway's options and totals, and
`tidehub explain-login` all ask here, with the user's name and memberships as the hub keeps them.

Its text travels into the images of Kubernetes, where a site is the plain values of `tidehub.login.plain`; so the
site's own types are named here, and nothing of them is used.

Everybody who may enter has what the site states for everybody. A rule of `login.groups` whose membership a user
holds adds to that, and of several values the most generous counts, each quantity for itself. Nothing is taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tidehub.login import rule
from tidehub.login.rule import Entitlement
from tidehub.site.units import format_cores, format_size

if TYPE_CHECKING:
    from tidehub.site.model import Bytes, Cores, Profile, Site
    from tidehub.site.model.dask import Dask
    from tidehub.site.model.group_rules import DaskFor, GroupRule, More

    Rules = list[tuple[str, GroupRule]]
    """Rules for groups with the keys where they stand."""

EVERYBODY = "everybody"
"""The reason of what every admitted user has."""


@dataclass(frozen=True)
class Server:
    """One profile that a user may start, with the sizes of their server. `by` says why they may."""

    profile: Profile
    memory: Bytes
    cpu: Cores
    by: str


@dataclass(frozen=True)
class Grant:
    """One limit that is larger than everybody's. `value` is in words, `by` the rule that gave it."""

    key: str
    value: str
    by: str


@dataclass(frozen=True)
class Entitled:
    """What one user has. `dask` holds their own limits; None where they may start no clusters."""

    servers: tuple[Server, ...]
    dask: Dask | None
    dask_by: str = ""
    grants: tuple[Grant, ...] = ()

    def server(self, slug: str) -> Server | None:
        """The server of the profile with that slug, if they may start it."""
        return next((server for server in self.servers if server.profile.slug == slug), None)

    @property
    def default(self) -> Server | None:
        """The preselected server: the site's default profile, or the first that they may start."""
        preselected = (server for server in self.servers if server.profile.default)
        return next(preselected, self.servers[0] if self.servers else None)


def entitled(site: Site, username: str, groups: Iterable[str]) -> Entitled:
    """What a user has. `groups` are memberships as URNs, the hub's groups; what is not a membership gives nothing."""
    held = tuple(_memberships(groups))
    rules = [(key, one) for key, one in _keyed(site) if rule.holder(held, one.group)]
    grants: list[Grant] = []
    servers = tuple(
        _server(site, profile, by, rules, grants)
        for index, profile in enumerate(site.notebooks.profiles)
        if (by := _why(site, profile, f"notebooks.profiles[{index}].allow", username, held, rules))
    )
    dask, dask_by = _dask(site.dask, rules, grants)
    return Entitled(servers, dask, dask_by, tuple(grants))


def largest_servers(site: Site) -> tuple[Server, ...]:
    """The server of each profile as somebody would have it who holds every membership of `login.groups`."""
    rules = _keyed(site)
    return tuple(_server(site, profile, EVERYBODY, rules, []) for profile in site.notebooks.profiles)


def is_restricted(site: Site, profile: Profile) -> bool:
    """Whether only some users may start this profile."""
    return profile.allow is not None or any(names(one, profile) for one in site.login.groups)


def names(group_rule: GroupRule, profile: Profile) -> bool:
    """Whether a rule's `profiles` has this profile, by slug or name."""
    return bool({profile.slug, profile.name} & set(group_rule.profiles))


def _keyed(site: Site) -> Rules:
    return [(f"login.groups[{index}]", one) for index, one in enumerate(site.login.groups)]


def _memberships(groups: Iterable[str]) -> Iterator[Entitlement]:
    for group in groups:
        try:
            yield rule.parse(group)
        except ValueError:
            continue


# --- notebook servers -------------------------------------------------------------------------


def _server(site: Site, profile: Profile, by: str, rules: Rules, grants: list[Grant]) -> Server:
    memory, cpu = site.notebooks.memory_of(profile), site.notebooks.cpu_of(profile)
    for key, group_rule in rules:
        more = group_rule.notebooks
        if more is not None and more.memory is not None:
            memory = memory.model_copy(update=_amounts(memory, more.memory, "notebooks.memory", key, grants))
        if more is not None and more.cpu is not None:
            cpu = cpu.model_copy(update=_amounts(cpu, more.cpu, "notebooks.cpu", key, grants))
    return Server(profile, memory, cpu, by)


def _amounts(
    have: Bytes | Cores, more: More[Any], where: str, key: str, grants: list[Grant]
) -> dict[str, Any]:
    return {
        name: _most(getattr(have, name), getattr(more, name), f"{where}.{name}", key, grants)
        for name in ("guarantee", "limit")
    }


def _why(
    site: Site,
    profile: Profile,
    key: str,
    username: str,
    held: tuple[Entitlement, ...],
    rules: Rules,
) -> str:
    if not is_restricted(site, profile):
        return EVERYBODY
    if profile.allow is not None:
        if rule.named(username, profile.allow.users):
            return f"{key}.users"
        if rule.holder(held, profile.allow.groups):
            return f"{key}.groups"
    return next((f"{where}.profiles" for where, one in rules if names(one, profile)), "")


# --- Dask -------------------------------------------------------------------------------------


def _dask(dask: Dask, rules: Rules, grants: list[Grant]) -> tuple[Dask | None, str]:
    if dask.engine == "none":
        return None, ""
    given = [(key, group_rule.dask) for key, group_rule in rules if group_rule.dask is not None]
    by = EVERYBODY
    if dask.access == "groups":
        by = next((f"{key}.dask.enabled" for key, more in given if more.enabled), "")
        if not by:
            return None, ""
    for key, more in given:
        dask = raised(dask, more, key, grants)
    return dask, by


def raised(dask: Dask, more: DaskFor, key: str = "", grants: list[Grant] | None = None) -> Dask:
    """The limits with those of one group rule, where they are more generous. Notes each in `grants`."""
    notes = [] if grants is None else grants

    def most(section: Any, wanted: Any, where: str) -> Any:
        if section is None or wanted is None:
            return section
        limits = {
            name: _most(getattr(section, name), value, f"{where}.{name}", key, notes)
            for name, value in wanted
            if value is not None
        }
        return section.model_copy(update=limits)

    worker = dask.worker
    if more.worker is not None:
        worker = worker.model_copy(
            update={
                "cores": most(worker.cores, more.worker.cores, "dask.worker.cores"),
                "memory": most(worker.memory, more.worker.memory, "dask.worker.memory"),
            }
        )
    return dask.model_copy(
        update={
            "worker": worker,
            "cluster": most(dask.cluster, more.cluster, "dask.cluster"),
            "per_user": most(dask.per_user, more.per_user, "dask.per_user"),
        }
    )


def _most(have: Any, given: Any, key: str, by: str, grants: list[Grant]) -> Any:
    """The larger amount; no limit at all (None in `have`) is the largest."""
    if have is None or given is None or given <= have:
        return have
    earlier = next((grant for grant in grants if grant.key == key), None)
    grant = Grant(key, _words(key)(given), by)
    if earlier is None:
        grants.append(grant)
    else:
        grants[grants.index(earlier)] = replace(earlier, value=grant.value, by=grant.by)
    return given


def _words(key: str) -> Callable[[Any], str]:
    if ".memory" in key or key.endswith("max_memory"):
        return format_size
    return format_cores if "cpu" in key or "cores" in key else str
